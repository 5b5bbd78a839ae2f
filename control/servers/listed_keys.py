"""Every key of a fleet's gateways: those of users whom the inventory declares, and those that were made at a gateway."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from control.servers.gateway_users import KeyRecord
from control.state.secrets import Vault
from inventory.fleet import Fleet
from resources import UNOPENED
from roles.users import user_key_name

USER_KEY = user_key_name("")

State = Literal["valid", "expired", "disabled", "to be made", "to be landed", "left the inventory"]


@dataclass(frozen=True)
class ListedKey:
    """A key, and who holds it. A declared one has no id: the user's name is enough, for it is the only one.

    `models` None is all of them, `limits` has only what is limited, `expires` and `created` are seconds since 1970, `where` are hosts.
    """

    user: str
    id: str
    hint: str
    label: str
    models: tuple[str, ...] | None
    limits: Mapping[str, int]
    weight: float
    admin: bool
    created: float | None
    expires: float | None
    state: State
    where: tuple[str, ...]
    declared: bool


def of_inventory(fleet: Fleet, vault: Vault, now: float) -> list[ListedKey]:
    """The keys of declared users, and those that are still kept of users who have left the inventory."""
    kept = {name.removeprefix(USER_KEY) for name in vault.names() if name.startswith(USER_KEY)}
    found = []
    for name, user in fleet.users.items():
        limits = {key: value for key, value in user.limits if value is not None} if user.limits else {}
        state: State = "to be made" if name not in kept else _state(user.expires_at, False, now)
        hint = hint_of(vault.get(user_key_name(name))) if name in kept else ""
        terms = (user.models, limits, user.weight, user.admin, None, user.expires_at)
        found.append(ListedKey(name, "", hint, "", *terms, state, fleet.gateways, True))
    for name in sorted(kept - fleet.users.keys()):
        hint = hint_of(vault.get(user_key_name(name)))
        found.append(ListedKey(name, "", hint, "", (), {}, 1.0, False, None, None, "left the inventory", (), True))
    return found


def compared(found: list[ListedKey], known: Mapping[str, Collection[str]]) -> Iterator[ListedKey]:
    """The same, beside what gateways say of the users that are declared to them: host → users. `paddock up` makes them alike."""
    declared = {each.user for each in found}
    for each in found:
        lacks = each.state == "valid" and any(each.user not in users for users in known.values())
        yield replace(each, state="to be landed") if lacks else each
    for user in sorted({user for users in known.values() for user in users} - declared):
        where = tuple(host for host, users in known.items() if user in users)
        yield ListedKey(user, "", "", "", (), {}, 1.0, False, None, None, "left the inventory", where, True)


def of_gateway(record: KeyRecord, hosts: tuple[str, ...], now: float) -> ListedKey:
    """A key that was made at a gateway; the hosts are all that share its database."""
    limits = {name: value for name, value in (record.limits or {}).items() if value is not None}
    terms = (record.models, limits, record.weight, record.admin, record.created, record.expires)
    state = _state(record.expires, record.disabled, now)
    return ListedKey(record.user, record.id, record.hint, record.label, *terms, state, hosts, False)


def hint_of(key: str) -> str:
    """The first and last characters, by which a person knows a key again: `sk-Ab…xy9Z`."""
    return "" if key == UNOPENED else f"{key[:5]}…{key[-4:]}" if len(key) >= 20 else "…"


def _state(expires: float | None, disabled: bool, now: float) -> State:
    return "disabled" if disabled else "expired" if expires is not None and expires <= now else "valid"
