"""One key a user, fair shares and a request log before llama-server."""
