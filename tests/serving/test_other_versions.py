"""`paddock upgrade` of what is not llama.cpp: a gateway that migrates its database and does not come up, and a Caddy there and back.

The tests are one story, in the order of the file.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.newer_caddy import newer_caddy
from tests.extended import extended
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

INVENTORY = """
fleet: versions
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {instances: {chat: {model: demo, listen: 127.0.0.1:8081}}}
      gateway:
      caddy:
        sites: {llama.home.example: {upstream: {gateway: box}}}
models: {demo: {source: tiny, preset: {ctx-size: 512}}}
users: {alice: , bob: }
clients: {laptop: }
"""

LATER = '''"""A column."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("users", sa.Column("later", sa.Text))
'''

ONLY_AT_A_SOCKET_OF_ITS_OWN = """

if os.environ.get("LISTEN_PID"):
    raise SystemExit("there is no such place")
"""

ENVIRONMENT = "readlink /opt/paddock/gateway/current"
ROWS = """/opt/paddock/gateway/current/bin/python -c '
import sqlite3
database = sqlite3.connect("file:/var/lib/paddock-gateway/gateway.db?mode=ro", uri=True)
print([database.execute(f"SELECT count(*) FROM {each}").fetchone()[0] for each in ("users", "keys")])
print(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])'"""
CADDY = "dpkg-query -W -f '${Version}' caddy"
SERVES = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8001/livez"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("versions", tmp_path_factory.mktemp("versions"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product with a gateway of a later version, whose tables are others, and that comes up on trial alone."""
    root = extended(tmp_path_factory.mktemp("later") / "product").root
    package = root / "services" / "gateway" / "paddock_gateway"
    (package / "store/migrations/versions/v0002_later.py").write_text(LATER)
    database = package / "store" / "database.py"
    database.write_text(database.read_text().replace('REVISION = "0001"', 'REVISION = "0002"'))
    server = package / "server.py"
    server.write_text(server.read_text() + ONLY_AT_A_SOCKET_OF_ITS_OWN)
    return root


def upgrade(fleet: LabFleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = fleet.paddock("upgrade", "--lab", "--soak", "2", "--no-measure", *arguments, timeout_s=3000)
    print(done.stdout, done.stderr, flush=True)
    return done


def test_where_nothing_has_another_version_nothing_is_upgraded(fleet: LabFleet) -> None:
    done = upgrade(fleet, "--plan", "--only", "gateway,llama_cpp")
    assert done.returncode == 0 and "nothing is to be upgraded" in done.stdout + done.stderr


def test_a_gateway_that_migrates_and_does_not_come_up_is_taken_back_with_its_rows_and_lets_in_nobody_again(
    fleet: LabFleet, later: Path
) -> None:
    made = fleet.paddock("keys", "create", "carol", "--on", "box", "--lab")
    assert made.returncode == 0, made.stderr
    before = [fleet.on("box", each) for each in (ROWS, ENVIRONMENT)]
    fleet.product = later
    fleet.write(INVENTORY.replace(", bob: ", ""))
    planned = upgrade(fleet, "--plan", "--only", "gateway")
    assert planned.returncode == 3 and "gateway" in planned.stdout + planned.stderr
    done = upgrade(fleet, "--yes", "--only", "gateway")
    assert done.returncode == 4
    assert [fleet.on("box", each) for each in (ROWS, ENVIRONMENT)] == before
    assert fleet.on("box", SERVES) == "200"
    assert fleet.on("box", 'grep -c \'"name": "bob"\' /etc/paddock/gateway/gateway.json', check=False).strip() == "0"
    assert fleet.on("box", "cat /var/lib/paddock/evidence/*/changed").count("digest") == 0


def test_a_later_gateway_that_is_well_stays_with_its_tables(fleet: LabFleet, later: Path) -> None:
    server = later / "services" / "gateway" / "paddock_gateway" / "server.py"
    server.write_text(server.read_text().replace(ONLY_AT_A_SOCKET_OF_ITS_OWN, ""))
    assert upgrade(fleet, "--yes", "--only", "gateway").returncode == 0
    assert fleet.on("box", ROWS).splitlines()[1] == "0002" and fleet.on("box", SERVES) == "200"


def test_caddy_goes_to_a_newer_version_and_back_to_the_distributions(fleet: LabFleet) -> None:
    fleet.write(INVENTORY)
    fleet.up()
    debians, newer = fleet.on("box", CADDY), newer_caddy()
    at = "      caddy:\n"
    fleet.write(INVENTORY.replace(at, f"{at}        package: {newer}\n"))
    assert upgrade(fleet, "--yes", "--only", "caddy").returncode == 0
    assert fleet.on("box", CADDY) == newer["version"] != debians
    assert fleet.paddock("verify", "--lab").returncode == 0
    fleet.write(INVENTORY)
    assert upgrade(fleet, "--yes", "--only", "caddy").returncode == 0
    assert fleet.on("box", CADDY) == debians
    assert fleet.paddock("verify", "--lab").returncode == 0
