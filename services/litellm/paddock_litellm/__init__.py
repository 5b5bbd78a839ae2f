"""What LiteLLM's proxy lacks without a database: keys of the fleet's users, and a way to servers by their Unix sockets."""
