"""The stack is a resource, and that says itself how it is looked at."""
