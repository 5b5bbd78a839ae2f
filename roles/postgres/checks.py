"""What shows that the gateway's database is there, and whose."""

from __future__ import annotations

from testinfra.backend.base import CommandResult
from testinfra.host import Host as TestinfraHost

from roles.postgres.plan import DATABASE, OWNER


def check_the_gateway_reaches_its_database(host: TestinfraHost) -> None:
    assert _asked(host, OWNER, DATABASE, "SELECT current_user").stdout.strip() == OWNER


def check_no_other_account_does(host: TestinfraHost) -> None:
    assert _asked(host, "nobody", DATABASE, "SELECT 1").rc != 0, f"any account reaches the database {DATABASE}"


def check_the_gateway_may_do_nothing_else(host: TestinfraHost) -> None:
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    said = _asked(host, "postgres", "postgres", f"SELECT {rights} FROM pg_roles WHERE rolname = '{OWNER}'")
    assert said.stdout.strip() == "f|f|f|f|f", said.stdout + said.stderr
    said = _asked(host, "postgres", "postgres", f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{DATABASE}'")
    assert said.stdout.strip() == "postgres", said.stdout + said.stderr


def check_the_database_is_no_other_roles(host: TestinfraHost) -> None:
    said = _asked(host, "postgres", "postgres", f"SELECT has_database_privilege('public', '{DATABASE}', 'CONNECT')")
    assert said.stdout.strip() == "f", f"every role may connect: {said.stdout}{said.stderr}"


def _asked(host: TestinfraHost, account: str, database: str, query: str) -> CommandResult:
    return host.run("cd / && runuser -u %s -- psql -XAtd %s -c %s", account, database, query)
