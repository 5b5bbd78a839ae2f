"""The keys that callers of a llama-server have to know, where the inventory asks for one: a secret a host."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from control.secrets import Vault
from inventory.schema import Fleet
from roles.llama_server.plan import key_name
from roles.llama_server.settings import LlamaServerSettings


def due(fleet: Fleet, vault: Vault) -> list[str]:
    """What `issue` would do, a line each: `API key of ai: there is none yet`."""
    return [f"API key of {host}: there is none yet" for host in _without(fleet, vault)]


def issue(fleet: Fleet, vault: Vault) -> None:
    """Makes the keys that are missing, 32 random bytes each."""
    for host in _without(fleet, vault):
        vault.set(key_name(host), f"sk-{secrets.token_urlsafe(32)}")


def _without(fleet: Fleet, vault: Vault) -> Iterator[str]:
    there = vault.names()
    for host in fleet.hosts_with("llama_server"):
        settings = fleet.role(host.name, "llama_server", LlamaServerSettings)
        if settings and settings.api_key and key_name(host.name) not in there:
            yield host.name
