"""`paddock backup` and `restore`, and what becomes of the gateway's database where a migration fails. `box` has its gateway on Postgres,
`far` on SQLite. The tests are one story, in the order of the file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.extended import extended
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

INVENTORY = """\
fleet: keptfleet
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        instances: {chat: {model: small, listen: "0.0.0.0:8081"}}
      postgres:
      gateway: {database: {postgres: box}}
  far:
    address: 192.0.2.11
    roles:
      base: {time: elsewhere}
      gateway: {upstream: box/chat}
models:
  small: {source: tiny, preset: {ctx-size: 1024}}
users:
  alice:
"""

HOSTS = ("box", "far")
LEASE = "/run/paddock/lease"
ADDS = 'op.add_column("users", sa.Column("later", sa.Text))'
FAILS = f'{ADDS}\n    op.execute("DELETE FROM keys")\n    op.execute("SELECT * FROM nowhere")'

MIGRATION = '''"""Later."""

import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = "{before}"


def upgrade() -> None:
    {does}
'''

SQL = "cd / && runuser -u postgres -- psql -XAtq paddock_gateway -v ON_ERROR_STOP=1 <<'END' 2>&1\n{}\nEND"
UNRESTORABLE = (
    "CREATE FUNCTION public.known(name text) RETURNS boolean LANGUAGE sql AS 'SELECT count(*) >= 0 FROM changes';"
    "ALTER TABLE users ADD CONSTRAINT odd CHECK (public.known(name));"
)
"""It finds its table by a search path, which a restore has none of."""


@dataclass
class Kept:
    fleet: LabFleet
    backup: Path
    keys: dict[str, str]
    """User → key; `carol` at box, `dave` at far, who were made before the backup, `erin` at both after it."""

    def told(self, verb: str, *arguments: str, code: int = 0) -> str:
        done = self.fleet.paddock(verb, *arguments, "--lab")
        assert done.returncode == code, f"{verb} {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def make(self, user: str, host: str) -> str:
        done = self.fleet.paddock("keys", "create", user, "--on", host, "--lab")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def status(self, host: str, user: str) -> str:
        """What the gateway of a host answers to the key of a user."""
        script = "curl -s -o /dev/null -w '%{http_code}' --max-time 20 --config - http://127.0.0.1:8001/v1/models"
        header = f'header = "Authorization: Bearer {self.keys[user]}"'
        return self.fleet.on(host, f"printf '%s\\n' '{header}' | {script}").strip()

    def process(self, host: str) -> str:
        return self.fleet.on(host, "systemctl show -P MainPID paddock-gateway.service").strip()

    def environment(self, host: str) -> str:
        return self.fleet.on(host, "readlink /opt/paddock/gateway/current").strip()

    def revision(self, host: str) -> str:
        query = "SELECT version_num FROM alembic_version"
        if host == "box":
            return self.fleet.on(host, SQL.format(query)).strip()
        python = f'import sqlite3; print(sqlite3.connect("/var/lib/paddock-gateway/gateway.db").execute("{query}").fetchone()[0])'
        return self.fleet.on(host, f"/usr/bin/python3 -c '{python}'").strip()

    def lease(self, host: str) -> list[str]:
        return self.fleet.on(host, f"cat {LEASE}").rstrip("\n").split("\t")

    def copies(self, host: str) -> list[str]:
        return self.fleet.on(host, "ls /var/lib/paddock/backups/*/ 2>/dev/null | grep dump$ || true").split()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with lab_fleet("keptfleet", tmp_path_factory.mktemp("keptfleet"), INVENTORY, ready=True) as fleet:
        fleet.up()
        found = Kept(fleet, Path(), {})
        found.keys = {"alice": fleet.paddock("keys", "show", "alice", "--key", "--lab").stdout.strip()}
        found.keys |= {"carol": found.make("carol", "box"), "dave": found.make("dave", "far")}
        yield found


def test_a_backup_has_the_state_and_both_databases(kept: Kept) -> None:
    done = kept.fleet.paddock("backup", "--json", "--lab")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    kept.backup = Path(said["file"])
    assert kept.backup.parent == kept.fleet.state.with_name("keptfleet-lab.backups")
    kinds = {host: (each["kind"], each["rows"]["users"], each["rows"]["keys"]) for host, each in said["databases"].items()}
    assert kinds == {"box": ("postgres", 1, 1), "far": ("sqlite", 1, 1)}
    done = kept.fleet.paddock("backup", "check", str(kept.backup))
    assert done.returncode == 0 and "each file is as the manifest says" in done.stdout, done.stderr
    assert str(kept.backup) in kept.told("backup", "list")
    assert kept.copies("box") == kept.copies("far") == [], "what was copied for it does not stay"
    assert "as declared" in kept.told("plan")


def test_on_an_empty_machine_the_state_comes_back_and_nothing_is_to_change(kept: Kept, tmp_path: Path) -> None:
    empty = replace(kept.fleet, directory=tmp_path / "empty")
    empty.directory.mkdir()
    done = empty.paddock("restore", str(kept.backup), "--state-only", "--yes", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert empty.inventory.read_text() == kept.fleet.inventory.read_text()
    said = empty.up().stdout
    assert re.findall(r"^(box|far) +0 changed", said, re.MULTILINE) == ["box", "far"], said
    shutil.rmtree(kept.fleet.directory / ".paddock" / "keptfleet-lab")
    done = kept.fleet.paddock("restore", str(kept.backup), "--state-only", "--yes", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 changed" in kept.fleet.up().stdout


def test_no_database_is_replaced_while_another_run_changes_its_host(kept: Kept) -> None:
    process = kept.process("far")
    line = r"%s\t$(cut -d. -f1 /proc/uptime)\t%s\tup\tben@lap\n"
    kept.fleet.on("far", f'mkdir -p /run/paddock; printf "{line % ("b" * 16, "9999999999")}" >{LEASE}')
    said = kept.told("restore", str(kept.backup), "--yes", code=1)
    assert "far: locked by ben@lap since" in said and "Nothing was changed" in said
    assert kept.process("far") == process and kept.lease("box")[2] == "0"
    kept.fleet.on("far", f"rm {LEASE}")


def test_databases_come_back_and_who_was_thrown_out_since_stays_out(kept: Kept) -> None:
    kept.told("keys", "revoke", "carol", "--yes", "--on", "box")
    for host in HOSTS:
        kept.keys["erin"] = kept.make("erin", host)
        assert kept.status(host, "erin") == "200"
    said = kept.told("restore", str(kept.backup), "--yes")
    assert "box: its database is as it was on" in said and "1 keys that were revoked since stay so" in said
    assert [kept.lease(host)[2:4] for host in HOSTS] == [["0", "restore"]] * 2, "it has had a lease of each, and given it back"
    assert [kept.status("box", user) for user in ("alice", "carol", "erin")] == ["200", "401", "401"]
    assert [kept.status("far", user) for user in ("alice", "dave", "erin")] == ["200", "200", "401"]
    assert "as declared" in kept.told("plan")
    kept.told("verify")
    left = "SELECT datname FROM pg_database WHERE datname LIKE 'paddock_gateway%'"
    assert kept.fleet.on("box", SQL.format(left)).split() == ["paddock_gateway"]
    assert kept.fleet.on("far", "ls /var/lib/paddock-gateway | grep -e before -e restored || true") == ""


def test_a_backup_that_cannot_be_restored_leaves_the_database_that_serves(kept: Kept, tmp_path: Path) -> None:
    process = kept.process("far")
    cut = tmp_path / "cut.tar.age"
    cut.write_bytes(kept.backup.read_bytes()[:-1000])
    assert "is damaged, not whole" in kept.told("restore", str(cut), "--yes", code=1)
    assert kept.process("far") == process and kept.status("far", "dave") == "200"


def test_a_copy_with_which_the_gateway_does_not_serve_is_taken_back(kept: Kept, tmp_path: Path) -> None:
    rename = 'import sqlite3; sqlite3.connect("/var/lib/paddock-gateway/gateway.db").execute("ALTER TABLE {} RENAME TO {}")'
    kept.fleet.on("far", f"/usr/bin/python3 -c '{rename.format('keys', 'others')}'")
    kept.told("backup", "--limit", "far", "--to", str(tmp_path / "useless"))
    kept.fleet.on("far", f"/usr/bin/python3 -c '{rename.format('others', 'keys')}'")
    said = kept.told("restore", str(tmp_path / "useless"), "--yes", "--limit", "far", code=1)
    assert "With the copy it does not serve, so the database of before is in its place again" in said
    assert kept.status("far", "dave") == "200"
    kept.fleet.on("far", "systemctl reset-failed paddock-gateway.service")


@pytest.fixture(scope="module")
def later(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product with a gateway of a later version."""
    return extended(tmp_path_factory.mktemp("later") / "product").root


def migrates(product: Path, number: str, does: str) -> None:
    """The gateway's tables are at `number` from now on, and the step to there does this."""
    store = product / "services" / "gateway" / "paddock_gateway" / "store"
    text = MIGRATION.format(number=number, before=f"{int(number) - 1:04}", does=does)
    (store / "migrations" / "versions" / f"v{number}_later.py").write_text(text)
    database = store / "database.py"
    database.write_text(re.sub('REVISION = "[0-9]+"', f'REVISION = "{number}"', database.read_text()))


def test_a_migration_that_fails_leaves_the_old_version_on_whole_data(kept: Kept, later: Path) -> None:
    before = {host: (kept.process(host), kept.environment(host), kept.revision(host)) for host in HOSTS}
    migrates(later, "0002", FAILS)
    kept.fleet.product = later
    done = kept.fleet.paddock("up", "--lab", "--yes")
    assert done.returncode == 1, done.stdout
    for host in HOSTS:
        assert re.search(
            rf"{host}: service:paddock-gateway.service: .*to 0002 fails on a copy of it, so nothing was changed: .*", done.stderr
        )
        assert (kept.process(host), kept.environment(host), kept.revision(host)) == before[host]
        assert kept.status(host, "alice") == "200" and kept.copies(host) == []
    assert (kept.status("far", "dave"), kept.status("box", "carol")) == ("200", "401")
    kept.fleet.on("far", "systemctl restart paddock-gateway.service")
    assert kept.status("far", "dave") == "200", "the old version starts again, too"


def test_a_dump_that_cannot_be_restored_blocks(kept: Kept, later: Path) -> None:
    migrates(later, "0002", ADDS)
    kept.fleet.on("box", SQL.format(UNRESTORABLE))
    process, environment = kept.process("box"), kept.environment("box")
    done = kept.fleet.paddock("up", "--lab", "--yes", "--limit", "box")
    assert done.returncode == 1 and "cannot be restored" in done.stderr, done.stdout + done.stderr
    assert (kept.process("box"), kept.environment("box"), kept.revision("box")) == (process, environment, "0001")
    assert kept.status("box", "alice") == "200"
    assert "cannot be restored" in kept.told("backup", "--limit", "box", code=1)
    kept.fleet.on("box", SQL.format("ALTER TABLE users DROP CONSTRAINT odd; DROP FUNCTION public.known"))


def test_a_migration_that_goes_well_was_copied_before(kept: Kept) -> None:
    kept.fleet.up()
    for host in HOSTS:
        assert kept.revision(host) == "0002" and len(kept.copies(host)) == 1
        assert kept.status(host, "alice") == "200"
        modes = kept.fleet.on(host, "stat -c '%a %U' /var/lib/paddock/backups/* /var/lib/paddock/backups/*/*.dump").splitlines()
        account = "postgres" if host == "box" else "paddock-gateway"
        assert modes == [f"700 {account}", f"600 {account}"]
    assert kept.status("far", "dave") == "200"
    assert "0 changed" in kept.fleet.up().stdout


def test_a_host_without_a_gateway_is_named(kept: Kept) -> None:
    kept.fleet.on("far", "mv /opt/paddock/gateway /opt/paddock/gateway.away")
    said = kept.told("backup", "--limit", "far", code=1)
    kept.fleet.on("far", "mv /opt/paddock/gateway.away /opt/paddock/gateway")
    assert "no gateway is installed there: `paddock up` does that" in said and "its database is not in the backup" in said
