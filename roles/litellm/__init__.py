"""LiteLLM's proxy before llama-servers of one host or of several."""
