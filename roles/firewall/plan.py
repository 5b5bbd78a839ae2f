"""One nftables table, loaded by one unit."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.context import Context
from inventory.schema import Fleet, Host
from roles.firewall.settings import FirewallSettings
from roles.resources import Resource


def plan(host: Host, settings: FirewallSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    yield from ()
