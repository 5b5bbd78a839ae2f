"""The keys that programs show to each other, and that Paddock makes: a secret each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from control.secrets import Vault
from inventory.schema import Fleet
from roles.admin.settings import AdminSettings, admin_key_name
from roles.client.settings import ClientSettings, bridge_key_name
from roles.llama_server.settings import LlamaServerSettings, api_key_name


def due(fleet: Fleet, vault: Vault) -> list[str]:
    """What `issue` would do, a line each: `API key of ai: there is none yet`."""
    return [f"{words}: there is none yet" for name, words in _wanted(fleet) if name not in vault.names()]


def issue(fleet: Fleet, vault: Vault) -> None:
    """Makes the keys that are missing, 32 random bytes each."""
    there = vault.names()
    for name, _ in _wanted(fleet):
        if name not in there:
            vault.set(name, f"sk-{secrets.token_urlsafe(32)}")


def _wanted(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """The name of each secret, and what it is."""
    for host in fleet.hosts:
        server = fleet.role(host, "llama_server", LlamaServerSettings)
        if server and server.api_key:
            yield api_key_name(host), f"API key of {host}"
        if fleet.role(host, "admin", AdminSettings):
            yield admin_key_name(host), f"key of {host}'s admin endpoint"
        client = fleet.role(host, "client", ClientSettings)
        for account, seat in client.accounts.items() if client else ():
            if seat.bridge:
                yield bridge_key_name(host, account), f"key of {account}'s bridge on {host}"
