"""Metrics of llama-servers that a reading would wake, for the node exporter of their host."""
