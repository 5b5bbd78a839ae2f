"""The keys that programs show to each other, and that Paddock makes: a secret each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.users import user_key_name
from roles.wording import did_you_mean, one_line


def due(fleet: Fleet, vault: Vault) -> list[str]:
    """What `issue` would do, a line each: `API key of ai: there is none yet`."""
    there = frozenset(vault.names())
    return [f"{words}: there is none yet" for name, words in made_by_paddock(fleet).items() if name not in there]


def issue(fleet: Fleet, vault: Vault) -> None:
    """Makes the keys that are missing, 32 random bytes each."""
    there = frozenset(vault.names())
    for name in made_by_paddock(fleet):
        if name not in there:
            vault.set(name, new_key())


def require_replaceable(fleet: Fleet, name: str) -> str:
    """What the secret is, in words. Raises PaddockError for one that Paddock does not make, or that data are kept with."""
    known = made_by_paddock(fleet)
    if name not in known:
        hint = did_you_mean(name, known)
        raise PaddockError(
            f"{one_line(name)}: Paddock makes no secret of this name for this fleet{hint}: `paddock secrets set` stores a value of yours"
        )
    if why := dict(_irreplaceable(fleet)).get(name):
        raise PaddockError(f"{name}, {known[name]}, is not replaced: {why}. `paddock secrets set {name}` stores another value all the same")
    return known[name]


def new_key() -> str:
    return f"sk-{secrets.token_urlsafe(32)}"


def made_by_paddock(fleet: Fleet) -> Mapping[str, str]:
    """The name of each secret, and what it is."""
    return dict(_wanted(fleet))


def _wanted(fleet: Fleet) -> Iterator[tuple[str, str]]:
    for name, host in fleet.hosts.items():
        for settings in host.carried.values():
            yield from settings.secrets(name)
    if fleet.admits_users:
        yield from ((user_key_name(user), f"key of the user {user}") for user in fleet.users)


def _irreplaceable(fleet: Fleet) -> Iterator[tuple[str, str]]:
    for name, host in fleet.hosts.items():
        for settings in host.carried.values():
            yield from settings.irreplaceable(name)
