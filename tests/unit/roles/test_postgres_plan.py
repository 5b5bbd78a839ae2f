"""The gateway's database as it is planned."""

from __future__ import annotations

from small_fleet import Small

from resources import File, Package, Service
from roles.postgres.plan import SCRIPT
from roles.users import DATABASE_UNIT as UNIT


def planned() -> Small:
    small = Small()
    small.roles["one"] |= {"postgres": {}, "gateway": {"database": {"postgres": "one"}}}
    return small


def script() -> str:
    return planned().text("one", SCRIPT)


def test_it_is_the_distributions_and_its_configuration_stays_as_it_is() -> None:
    plan = planned().plan("one")
    assert isinstance(plan["package:postgresql"], Package)
    assert not [each for each in plan.values() if isinstance(each, File) and each.path.startswith("/etc/postgresql")]
    assert "service:postgresql.service" not in plan, "a restart would be one of everybody's databases"


def test_the_gateways_database_is_made_by_a_unit_that_may_be_run_again() -> None:
    small = planned()
    service = small.plan("one")[f"service:{UNIT}"]
    assert isinstance(service, Service) and {each.id for each in service.restarts} == {
        f"file:{SCRIPT}",
        f"file:/etc/systemd/system/{UNIT}",
    }
    unit = small.text("one", f"/etc/systemd/system/{UNIT}").splitlines()
    assert {"Wants=postgresql.service", "After=postgresql.service", "User=postgres", "Type=oneshot", "RemainAfterExit=yes"} <= {*unit}
    assert script().count("WHERE NOT EXISTS") == 2


def test_the_gateways_role_has_the_least_rights() -> None:
    assert "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL CONNECTION LIMIT 32;" in script()
    assert 'REVOKE ALL ON DATABASE :"database" FROM PUBLIC;' in script()
    assert 'GRANT CONNECT ON DATABASE :"database" TO :"owner";' in script()
    assert 'ALTER DATABASE :"database" OWNER TO postgres;' in script()


def test_nothing_that_is_there_is_dropped() -> None:
    assert "DROP" not in script().upper()
