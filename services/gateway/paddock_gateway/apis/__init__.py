"""The gateway's own APIs: the small host's, LiteLLM's management, and the administrator's."""
