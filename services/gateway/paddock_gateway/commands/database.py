"""init-db."""

from __future__ import annotations

from argparse import Namespace

from paddock_gateway.commands.opened import become_owner
from paddock_gateway.commands.words import show
from paddock_gateway.settings import configuration
from paddock_gateway.store.opening import where


def make(options: Namespace) -> int:
    from paddock_gateway.store.migrate import migrate

    said = configuration(options.configuration)
    become_owner(said)
    revision = migrate(said)
    show(options, {"database": where(said), "revision": revision}, f"{where(said)} is ready (its tables are at {revision})")
    return 0
