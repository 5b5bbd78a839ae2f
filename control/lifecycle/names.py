"""What has a version on hosts, by the roles that bring it. Nothing is imported here that takes time."""

from __future__ import annotations

LLAMA_CPP, GATEWAY, POSTGRES, CADDY = "llama_cpp", "gateway", "postgres", "caddy"

COMPONENTS = (POSTGRES, GATEWAY, CADDY, LLAMA_CPP)
"""In the order in which they are upgraded: what the gateway keeps its data in goes before it, and what comes along with llama.cpp has been
tried by itself then."""

WORDS = {LLAMA_CPP: "llama.cpp", GATEWAY: "the gateway", POSTGRES: "PostgreSQL", CADDY: "Caddy"}
