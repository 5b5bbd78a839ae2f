"""A small endpoint beside llama-server, for what its own API does not do: show presets, change a context, restart."""
