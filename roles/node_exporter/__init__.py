"""Metrics of the machine itself."""
