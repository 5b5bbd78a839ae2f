"""The admin endpoint of a host, as who passes requests on to it sees it."""

from __future__ import annotations

from dataclasses import dataclass

from inventory.schema import Fleet
from roles.admin.settings import AdminSettings, admin_key_name


@dataclass(frozen=True)
class Administration:
    """`endpoint` is where it answers, `ADDRESS:PORT`; `key_name` the name of the secret that it asks for."""

    endpoint: str
    key_name: str


def administration(fleet: Fleet, host: str, seen_from: str) -> Administration | None:
    """That of a host, for a caller on `seen_from`; None where it carries none. Raises InventoryError where that cannot reach it."""
    settings = fleet.role(host, "admin", AdminSettings)
    if settings is None:
        return None
    return Administration(fleet.reach(settings.listen, f"hosts.{host}.roles.admin.listen", host, seen_from), admin_key_name(host))
