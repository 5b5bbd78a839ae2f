"""The engine that runs stacks."""
