"""ggml-rpc-server, which computes a part of a model for the llama-server of another host."""
