"""The model files that a host's servers read."""
