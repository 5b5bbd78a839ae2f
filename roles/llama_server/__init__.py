"""llama-server, which answers completions."""
