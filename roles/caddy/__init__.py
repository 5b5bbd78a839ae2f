"""The reverse proxy: TLS in front, client certificates required, llama-server behind."""
