"""One lab host with all that an operator may be changing when something happens: a llama-server, a gateway with its keys and its log in
SQLite, and a site before it; and what is asked of it from outside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inventory.load import load
from lab import hosts as lab_hosts
from lab.engine import engine
from tests.extended import extended
from tests.faults.fault_fleet import RESET
from tests.faults.stepped_clock import installed, step
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet

NAME = "sixteen"
SITE = "ai.home.example"
DATABASE = "/var/lib/paddock-gateway/gateway.db"
OTHER = {"GGML_CPU_REPACK": False}

ON_SMALL_DISKS = {"/var/lib/paddock": 900, "/var/lib/paddock-gateway": 8, "/opt/paddock": 200, "/etc/caddy": 1, "/etc/paddock": 1}
"""Where Paddock keeps what it has on a host, and the MiB that are free there until it is full."""

MIGRATION = '''"""A column, and an index of what there is; and a moment in the middle of the transaction."""

import time
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "{number:04}"
down_revision = "{before:04}"


def upgrade() -> None:
    op.add_column("llama_requests", sa.Column("later{number}", sa.Text, server_default="later"))
    path = op.get_bind().exec_driver_sql("PRAGMA database_list").fetchall()[0][2]
    if path == "{database}" and Path("/run/tripwire/migration").exists():
        Path("/run/tripwire/caller").write_text("the migration")
        while not Path("/run/tripwire/released").exists():
            time.sleep(0.02)
    op.create_index("later{number}", "llama_requests", ["later{number}", "request_id", "path"])
'''


@dataclass(frozen=True)
class Told:
    """What a run printed, and how it ended."""

    code: int
    out: str
    err: str


@dataclass
class Sixteen:
    """`options`, `sites` and `revision` are what the inventory and the product say now; `answered` how many requests the log must have."""

    fleet: LabFleet
    options: dict[str, Any] = field(default_factory=dict)
    sites: list[str] = field(default_factory=lambda: [SITE])
    revision: int = 1
    answered: int = 0
    key: str = ""

    @property
    def container(self) -> str:
        return f"paddock-{NAME}-box"

    def inside(self, script: str) -> str:
        return inside(self.container, script)

    def describe(self) -> None:
        roles = {
            "base": {"time": "elsewhere"},
            "llama_cpp": {"ui": False, "options": self.options},
            "models": None,
            "llama_server": {"models": ["demo"], "models_max": 1},
            "gateway": {"listen": "127.0.0.1:8001"},
            "caddy": {"sites": {site: {"upstream": {"gateway": "box"}} for site in self.sites}},
        }
        whole = {"fleet": NAME, "domain": "home.example", "networks": ["192.0.2.0/24"], "clients": {"laptop": {}}, "users": {"bob": {}}}
        hosts = {"box": {"address": "192.0.2.10", "roles": roles}}
        self.fleet.write(json.dumps({**whole, "hosts": hosts, "models": {"demo": {"preset": {"ctx-size": 512}}}}))

    def migrates(self) -> None:
        """The product's gateway is a later version from now on, whose tables are others."""
        if self.revision == 1:
            self.fleet.product = extended(self.fleet.directory / "product").root
        store = self.fleet.product / "services/gateway/paddock_gateway/store"
        before, self.revision = self.revision, self.revision + 1
        text = MIGRATION.format(number=self.revision, before=before, database=DATABASE)
        (store / f"migrations/versions/v{self.revision:04}_later.py").write_text(text)
        database = store / "database.py"
        database.write_text(database.read_text().replace(f'REVISION = "{before:04}"', f'REVISION = "{self.revision:04}"'))

    @contextmanager
    def at_work(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A verb at work, in a process group of its own; `told` waits for its end."""
        process = subprocess.Popen(
            self.fleet.command(*arguments, "--lab"),
            cwd=self.fleet.product,
            env=self.fleet.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def told(self, process: subprocess.Popen[str]) -> Told:
        out, err = process.communicate(timeout=2400)
        assert "Traceback" not in out + err, out + err
        print(f"exit {process.returncode}\n{err}", flush=True)
        return Told(process.returncode, out, err)

    def run(self, *arguments: str) -> Told:
        began = time.monotonic()
        with self.at_work(*arguments) as process:
            told = self.told(process)
        print(f"{' '.join(arguments)}: {time.monotonic() - began:.0f} s", flush=True)
        return told

    def does(self, *arguments: str) -> str:
        told = self.run(*arguments)
        assert told.code == 0, told.out + told.err
        return told.out

    def settled(self) -> None:
        """All is as declared, and the next run finds nothing to do."""
        self.does("verify")
        assert "0 changed" in self.does("up", "--yes")

    def answers(self, within_s: int = 5, site: str = SITE) -> None:
        """A client with its certificate and its key gets a completion of the model."""
        deadline = time.monotonic() + within_s
        while "from a tiny model" not in (said := self._asked(site)):
            assert time.monotonic() < deadline, said
            time.sleep(1)
        self.answered += 1

    def _asked(self, site: str) -> str:
        mine = self.fleet.state / "export" / "laptop"
        header = mine / "header"
        header.write_text(f"Authorization: Bearer {self.key}\nContent-Type: application/json\n")
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
        address = self.fleet.host("box").address
        curl = ["curl", "-sS", "--max-time", "60", "--connect-to", f"{site}:443:{address}:443", "--cacert", str(mine / "ca.pem")]
        own = ["--cert", str(mine / "cert.pem"), "--key", str(mine / "key.pem"), "-H", f"@{header}", "-d", json.dumps(body)]
        done = subprocess.run([*curl, *own, f"https://{site}/v1/chat/completions"], capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def rows_are_whole(self, wanted: int) -> None:
        """Of so many requests there is a row, the file is sound, its tables are those of the gateway that runs."""
        time.sleep(2)  # a batch every quarter of a second
        look = "PRAGMA integrity_check; SELECT count(*) FROM llama_requests; SELECT count(*) FROM keys; SELECT version_num FROM alembic_version"
        script = (
            f"import sqlite3; c = sqlite3.connect('{DATABASE}'); print(*[c.execute(each).fetchone()[0] for each in '{look}'.split(';')])"
        )
        sound, rows, keys, revision = self.inside(f'runuser -u paddock-gateway -- python3 -c "{script}"').split()
        assert (sound, keys, int(revision)) == ("ok", "1", self.revision), "it is damaged, or the key is lost, or it is another version's"
        assert int(rows) >= wanted, f"{rows} rows, {wanted} requests"

    def restart(self) -> None:
        """The machine loses its power, and is there again."""
        docker = engine().command
        subprocess.run([*docker, "kill", self.container], check=True, capture_output=True)
        subprocess.run([*docker, "wait", self.container], check=True, capture_output=True, timeout=120)
        lab_hosts.up(load(self.fleet.inventory), frozenset({"box"}))

    def cut(self) -> None:
        self.inside(RESET)

    def fill(self) -> None:
        for place in ON_SMALL_DISKS:
            self.inside(f"for by in 1M 1k; do dd if=/dev/zero of={place}/filler bs=$by oflag=append conv=notrunc 2>/dev/null || true; done")

    def empty(self) -> None:
        self.inside("; ".join(f"rm -f {place}/filler" for place in ON_SMALL_DISKS))

    def step(self, hours: int) -> None:
        step(self.container, hours)

    @contextmanager
    def small_disks(self) -> Iterator[None]:
        """Inside the block, what Paddock keeps lies on file systems that can be filled."""
        self.inside("; ".join(f"{ONTO.format(place=place, free=free)}" for place, free in ON_SMALL_DISKS.items()))
        self.inside("systemctl restart paddock-gateway")
        self.does("up", "--yes", "--no-verify")
        try:
            yield
        finally:
            self.inside("systemctl stop paddock-gateway")
            self.inside("; ".join(OFF.format(place=place) for place in ON_SMALL_DISKS))
            self.inside("systemctl start paddock-gateway")


ONTO = """aside=/root/aside{place}; mkdir -p $aside; mount --bind {place} $aside
mount -t tmpfs -o size=$(($(du -sm {place} | cut -f 1) + {free}))m small {place}
cp -a $aside/. {place}; chown --reference=$aside {place}; chmod --reference=$aside {place}"""

OFF = """aside=/root/aside{place}; rm -f {place}/filler; find $aside -mindepth 1 -delete; cp -a {place}/. $aside
umount -l {place}; umount $aside; rmdir $aside"""


@contextmanager
def sixteen_fleet(directory: Path) -> Iterator[Sixteen]:
    roles = {"base": {}, "llama_cpp": {"ui": False}}
    bare = {"fleet": NAME, "domain": "home.example", "hosts": {"box": {"address": "192.0.2.10", "roles": roles}}}
    with lab_fleet(NAME, directory, json.dumps(bare), ready=True) as fleet:
        this = Sixteen(fleet)
        installed(this.container)
        this.describe()
        this.does("up", "--yes", "--accept-host-keys", "--no-verify")
        this.does("certs", "export", "laptop")
        this.key = this.does("keys", "create", "carol", "--on", "box").strip()
        yield this
