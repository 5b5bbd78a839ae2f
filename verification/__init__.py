"""What `paddock verify` runs: each resource of a host's plan, and each role, looked at in a way of its own (testinfra over SSH)."""
