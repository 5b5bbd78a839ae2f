"""The endpoint's program, its key and its unit."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.context import Context
from inventory.schema import Fleet, Host
from roles.admin.settings import AdminSettings
from roles.resources import Resource


def plan(host: Host, settings: AdminSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    yield from ()
