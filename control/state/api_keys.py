"""The keys that programs show to each other, and that Paddock makes: a secret each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from control.state.secrets import Vault
from inventory.fleet import Fleet
from roles.users import user_key_name


def due(fleet: Fleet, vault: Vault) -> list[str]:
    """What `issue` would do, a line each: `API key of ai: there is none yet`."""
    there = frozenset(vault.names())
    return [f"{words}: there is none yet" for name, words in dict(_wanted(fleet)).items() if name not in there]


def issue(fleet: Fleet, vault: Vault) -> None:
    """Makes the keys that are missing, 32 random bytes each."""
    there = frozenset(vault.names())
    for name in dict(_wanted(fleet)):
        if name not in there:
            vault.set(name, new_key())


def new_key() -> str:
    return f"sk-{secrets.token_urlsafe(32)}"


def _wanted(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """The name of each secret, and what it is."""
    for name, host in fleet.hosts.items():
        for settings in host.carried.values():
            yield from settings.secrets(name)
    if fleet.admits_users:
        yield from ((user_key_name(user), f"key of the user {user}") for user in fleet.users)
