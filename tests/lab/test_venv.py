"""A program and the packages that it needs, from `plan` to `teardown` on a lab host that asks no index: the gateway's, without a service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.extended import add_name, extended
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

HOST = """
fleet: packed
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles: {base: {}}
"""

WITH_ROLE = HOST.replace("{base: {}}", "{base: {}, packed: {}}")

ROLE = {
    "__init__": '"""The gateway\'s environment and nothing else."""\n',
    "checks": "",
    "settings": """
from roles.role import RoleSettings


class PackedSettings(RoleSettings):
    def program(self) -> str:
        return "gateway"
""",
    "plan": """
from resources import Directory, Package, Venv


def plan(host, settings, fleet, knowledge):
    yield Package("python3-venv")
    yield Directory("/opt/paddock")
    yield Venv("/opt/paddock/gateway", knowledge.wheels_for(host.name, "gateway"))
""",
}

VENV = "venv:/opt/paddock/gateway"
MODULE = "/opt/paddock/gateway/current/lib/python3*/site-packages/aiohttp/web.py"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    product = extended(tmp_path_factory.mktemp("packed") / "product")
    (product.root / "roles" / "packed").mkdir()
    for name, text in ROLE.items():
        (product.root / "roles" / "packed" / f"{name}.py").write_text(text)
    add_name(product.root / "roles" / "__init__.py", "ROLES", "packed", before="client")
    with lab_fleet("packed", tmp_path_factory.mktemp("packed"), HOST) as found:
        found.product = product.root
        found.write(WITH_ROLE)
        yield found


def test_an_environment_is_planned_put_shown_mended_verified_and_taken_away(fleet: LabFleet) -> None:
    def paddock(*arguments: str, code: int = 0) -> str:
        done = fleet.paddock(*arguments)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def on(script: str) -> str:
        return inside(fleet.host("ai").container, script).strip()

    assert f"  + {VENV}  (paddock_gateway==0.1.0 with " in paddock("plan", "--lab", code=3)
    assert "paddock-gateway 0.1.0 with " in paddock("plan", "--lab", "--offline")
    assert "checks passed" in paddock("up", "--lab", "--yes")
    ask = "/opt/paddock/gateway/current/bin/python -c 'import paddock_gateway, uvloop, asyncpg, greenlet, orjson; print(1)'"
    assert on(ask) == "1"
    assert " 0 changed" in paddock("up", "--lab", "--yes")
    (line,) = (line.split() for line in paddock("status", "--lab").splitlines() if VENV in line)
    assert line[2:] == ["as", "declared"]

    on(f"echo >>$(echo {MODULE})")
    assert "/site-packages/aiohttp/web.py was changed → intact" in paddock("plan", "--lab", code=3)
    assert "aiohttp/web.py is not as its package has it" in paddock("verify", "--lab", code=1)
    paddock("up", "--lab", "--yes")
    assert on(ask) == "1"

    assert f"  - {VENV}" in paddock("teardown", "--lab", "--yes").splitlines()
    assert on("ls -d /opt/paddock /var/lib/paddock 2>/dev/null || true") == ""
    assert on("dpkg-query -W -f '${Status}' python3-venv 2>/dev/null || true") != "install ok installed"
