"""The distribution's cluster, and what makes the gateway's database and its owner in it."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Resource, Service
from roles.postgres.settings import PostgresSettings
from roles.role import render
from roles.users import DATABASE_UNIT as UNIT

DIRECTORY = "/etc/paddock/postgres"
SCRIPT = f"{DIRECTORY}/gateway.sql"
DATABASE = "paddock_gateway"
OWNER = "paddock-gateway"
"""As the account that may be it is called: the distribution's pg_hba.conf lets an account in by its name (peer)."""

CONNECTIONS = 32
"""At a time: the gateway must not take all that the cluster has."""


def plan(host: Host, settings: PostgresSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    package = Package("postgresql")
    script = File(SCRIPT, render("postgres/gateway.sql.j2", database=DATABASE, owner=OWNER, connections=CONNECTIONS))
    unit = File(f"/etc/systemd/system/{UNIT}", render("postgres/paddock-postgres-gateway.service.j2", script=SCRIPT))
    yield package
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield script
    yield unit
    yield Service(UNIT, restarts=(script, unit))
