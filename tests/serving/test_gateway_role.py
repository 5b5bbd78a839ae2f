"""The roles `gateway` and `postgres`. `box` has llama-servers, a gateway on Postgres and a site before it; `far` a gateway on SQLite that
reaches one of these servers through the tunnel.

The tests are one story, in the order of the file. Keys go through the lab's own way in, an SSH tunnel: no command line on a host has one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from lab.hosts import ssh_command
from tests.extended import extended
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

LONG = 8_000
"""Tokens of an answer that is on its way when the gateway is started anew."""

INVENTORY = f"""\
fleet: gatefleet
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {{time: elsewhere}}
      firewall:
      llama_cpp: {{ui: false}}
      models:
      llama_server:
        api_key: true
        preset: {{threads: 1, threads-batch: 1}}
        instances:
          chat: {{model: small, listen: "0.0.0.0:8081"}}
          long: {{model: long, listen: 127.0.0.1:8082}}
      postgres:
      gateway:
        listen: 127.0.0.1:8001
        database: {{postgres: box}}
        master_key: true
        drain_s: 900
        pi: {{model: small, keys_generate: [127.0.0.0/8]}}
      caddy:
        sites:
          llama.home.example: {{upstream: {{gateway: box}}}}
  far:
    address: 192.0.2.11
    roles:
      base: {{time: elsewhere}}
      gateway: {{listen: 127.0.0.1:8001, upstream: box/chat}}
models:
  small: {{source: tiny, aliases: [small.gguf], preset: {{ctx-size: 4096, parallel: 2}}}}
  long: {{source: tiny, preset: {{ctx-size: {2 * LONG}, parallel: 1}}}}
users:
  alice: {{limits: {{requests: 5, window_s: 3600}}}}
  bob:
clients:
  laptop:
"""

HI = [{"role": "user", "content": "hi"}]
UNIT = "paddock-gateway.service"
MIGRATES = 4711
"""An advisory lock in Postgres at which the later version's migration waits."""

LATER = f'''"""A column, and a lock in the middle of the transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("users", sa.Column("later", sa.Text))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT pg_advisory_xact_lock({MIGRATES})")
'''

SQL = "cd / && runuser -u {} -- psql -XAtq {} -v ON_ERROR_STOP=1 <<'END' 2>&1\n{}\nEND"


@dataclass
class Gates:
    """`urls` lead to the gateways of `box` and `far`, and `site` to the port of box's Caddy."""

    fleet: LabFleet
    urls: Mapping[str, str]
    site: int

    def on(self, script: str, *, host: str = "box", check: bool = True) -> str:
        return self.fleet.on(host, script, check=check).strip()

    def sql(self, query: str, *, account: str = "postgres", database: str = "paddock_gateway", check: bool = True) -> str:
        return self.on(SQL.format(account, database, query), check=check)

    def key(self, user: str) -> str:
        done = self.fleet.paddock("keys", "show", user, "--key", "--lab")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def told(self, verb: str, *arguments: str, code: int = 0) -> str:
        """What `paddock VERB … --lab` prints to standard output."""
        done = self.fleet.paddock(verb, *arguments, "--lab")
        assert done.returncode == code, f"{verb} {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, key: str, path: str = "/v1/models", body: Any = None, *, host: str = "box") -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers."""
        with _opened(self.urls[host] + path, key, body) as answer:
            return answer.status, json.loads(answer.read() or b"null"), answer.headers

    def chat(self, key: str, *, host: str = "box", **more: Any) -> int:
        body = {"model": "small", "messages": HI, "max_tokens": 4} | more
        return self.ask(key, "/v1/chat/completions", body, host=host)[0]

    def rows(self) -> int:
        """All that there are, once what was asked before is written: a batch every quarter of a second."""
        time.sleep(2)
        return int(self.sql("SELECT count(*) FROM llama_requests"))

    def until_rows(self, wanted: int) -> None:
        self.until(SQL.format("postgres", "paddock_gateway", "SELECT count(*) FROM llama_requests"), str(wanted))

    def process(self) -> str:
        return self.on(f"systemctl show -P MainPID {UNIT}")

    def until(self, script: str, wanted: str) -> None:
        """Until a script of box prints it."""
        for _ in range(600):
            if (said := self.on(script, check=False)) == wanted:
                return
            time.sleep(0.1)
        raise AssertionError(f"{script}: {said}, not {wanted}")

    def until_ready(self) -> None:
        self.until("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8001/readyz", "200")


@contextmanager
def _opened(url: str, key: str, body: Any) -> Iterator[Any]:
    """The answer, of whichever status."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=300) as answer:
            yield answer
    except HTTPError as answer:
        with answer:
            yield answer


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    with lab_fleet("gatefleet", tmp_path_factory.mktemp("gatefleet"), INVENTORY, ready=True) as fleet:
        fleet.up()
        box, far, site = (_free_port() for _ in range(3))
        ways = {"box": {box: 8001, site: 443}, "far": {far: 8001}}
        tunnels = [_tunnel(fleet, host, ports) for host, ports in ways.items()]
        found = Gates(fleet, {"box": f"http://127.0.0.1:{box}", "far": f"http://127.0.0.1:{far}"}, site)
        try:
            for url in found.urls.values():
                _await(url)
            yield found
        finally:
            for tunnel in tunnels:
                tunnel.terminate()
                tunnel.wait()


def _tunnel(fleet: LabFleet, host: str, ports: Mapping[int, int]) -> subprocess.Popen[bytes]:
    """Ports here to the host's."""
    ways = [f"-L127.0.0.1:{here}:127.0.0.1:{there}" for here, there in ports.items()]
    return subprocess.Popen([*ssh_command(fleet.host(host)), "-N", *ways], stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _await(url: str) -> None:
    for _ in range(300):
        with suppress(URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/livez", timeout=5).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_a_second_up_changes_nothing(gates: Gates) -> None:
    """The first one, of the fixture, has verified both hosts."""
    said = gates.fleet.up().stdout
    assert re.findall(r"^(box|far) +0 changed", said, re.MULTILINE) == ["box", "far"], said


def test_a_declared_users_key_lists_models_and_chats_until_its_limit_and_others_go_on(gates: Gates) -> None:
    alice, bob = gates.key("alice"), gates.key("bob")
    status, models, _ = gates.ask(alice)
    assert status == 200 and {each["id"] for each in models["data"]} >= {"small", "long"}
    assert [gates.chat(alice, model=name) for name in ("small", "small.gguf", "long", "small", "small")] == [200] * 5
    status, answer, headers = gates.ask(alice, "/v1/chat/completions", {"model": "small", "messages": HI})
    assert status == 429 and 0 < int(headers["Retry-After"]) <= 3600 + 60, answer
    assert [gates.chat(bob) for _ in range(7)] == [200] * 7


def test_nobody_else_is_answered(gates: Gates) -> None:
    for key in ("", "sk-nobodys", gates.key("alice")[:-1]):
        assert gates.ask(key)[0] == gates.chat(key) == 401
        assert gates.chat(key, host="far") == 401


def test_a_gateway_on_another_host_answers_through_the_tunnel(gates: Gates) -> None:
    status, models, _ = gates.ask(gates.key("bob"), host="far")
    assert status == 200 and [each["id"] for each in models["data"] if each["id"] == "long"] == []
    assert gates.chat(gates.key("bob"), host="far") == 200
    assert gates.chat(gates.key("bob"), host="far", model="long") == 404


def test_a_key_made_at_the_gateway_works_at_once_outlives_up_and_is_revoked_within_a_second(gates: Gates) -> None:
    carol = gates.told("keys", "create", "carol", "--models", "small", "--on", "box").strip()
    assert gates.chat(carol) == 200
    assert gates.chat(carol, model="long") in (403, 404)
    assert gates.chat(carol, host="far") == 401, "that gateway has users of its own"
    gates.fleet.up()
    listed = json.loads(gates.told("keys", "list", "--json"))
    assert {each["user"] for each in listed} == {"alice", "bob", "carol"}
    assert gates.chat(carol) == 200
    gates.told("keys", "revoke", "carol", "--yes", "--on", "box")
    time.sleep(1)
    assert gates.chat(carol) == 401


def test_litellms_call_and_the_small_hosts_make_keys_that_work(gates: Gates) -> None:
    master = gates.told("secrets", "show", "gateway-master.box").strip()
    status, made, _ = gates.ask(master, "/key/generate", {"models": ["small"], "key_alias": "website"})
    assert status == 200 and gates.chat(made["key"]) == 200
    assert gates.ask(gates.key("bob"), "/key/generate", {})[0] == 403
    status, answer, _ = gates.ask(gates.key("bob"), "/generate", {"prompt": "hi", "max_tokens": 3, "stream": False})
    assert status == 200, answer


def test_each_request_is_a_row_in_postgres_and_the_gateway_may_do_nothing_else_there(gates: Gates) -> None:
    before = gates.rows()
    assert gates.chat(gates.key("bob"), max_tokens=7) == 200
    gates.until_rows(before + 1)
    columns = "username, path, model, backend, status_code, completion_tokens"
    row = gates.sql(f"SELECT {columns} FROM llama_requests ORDER BY created_at DESC LIMIT 1")
    assert row == "bob|/v1/chat/completions|small|box/chat|200|7"
    gates.sql("CREATE TABLE secret (word text); INSERT INTO secret VALUES ('hush')", database="postgres")
    for database, query in (
        ("postgres", "SELECT word FROM secret"),
        ("postgres", "CREATE TABLE public.own (word text)"),
        ("paddock_gateway", "CREATE ROLE more"),
        ("paddock_gateway", "CREATE DATABASE more"),
        ("paddock_gateway", "CREATE SCHEMA more"),
        ("paddock_gateway", "ALTER ROLE CURRENT_USER SUPERUSER"),
        ("paddock_gateway", "COPY llama_requests TO PROGRAM 'cat >/tmp/rows'"),
        ("paddock_gateway", "SELECT pg_read_file('/etc/passwd')"),
        ("paddock_gateway", "SELECT rolpassword FROM pg_authid"),
    ):
        said = gates.sql(query, account="paddock-gateway", database=database, check=False)
        assert "permission denied" in said, f"{query}: {said}"


@pytest.mark.parametrize("host", ["box", "far"])
def test_a_break_in_finds_little(gates: Gates, host: str) -> None:
    said = gates.on(f"systemd-analyze security --no-pager {UNIT} | tail -n 1", host=host)
    print(f"gateway: {host}: {said}", flush=True)
    assert float(re.findall(r"(\d+\.\d)", said)[0]) <= 1.5
    assert gates.fleet.exposed(host) == ""


def test_keys_are_in_files_of_the_gateway_alone(gates: Gates) -> None:
    """Nothing of one is in the journal, in what processes show of themselves, or in a file that other accounts may read."""
    secrets = [gates.key("alice"), gates.key("bob")]
    secrets += [gates.told("secrets", "show", name).strip() for name in ("gateway-master.box", "gateway-pepper")]
    modes = gates.on("find /etc/paddock/gateway /var/lib/paddock-gateway -type f -printf '%m %u:%g %p\\n'").splitlines()
    assert {"/etc/paddock/gateway/pepper", "/etc/paddock/gateway/master-key"} <= {line.split()[2] for line in modes}
    assert {line.split()[0] for line in modes} <= {"600", "640"}, modes
    assert {line.split()[1] for line in modes} <= {"root:paddock-gateway", "paddock-gateway:paddock-gateway"}, modes
    patterns = "\n".join(secrets)
    gates.on(f"umask 077; cat >/root/secrets <<'END'\n{patterns}\nEND")
    look = "grep -rlFf /root/secrets --devices=skip /etc /opt /run /tmp /usr/local /var 2>/dev/null"
    assert set(gates.on(look, check=False).split()) <= {"/etc/paddock/gateway/pepper", "/etc/paddock/gateway/master-key"}
    assert gates.on("journalctl --sync; journalctl -q | grep -cFf /root/secrets", check=False) == "0"
    shown = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
    assert gates.on(f"{shown} | grep -cFf /root/secrets", check=False) == "0"
    assert gates.sql("SELECT count(*) FROM keys WHERE length(digest) <> 64") == "0"
    gates.on("rm /root/secrets")


def test_a_gateway_that_is_killed_starts_again_and_its_rows_stay_whole(gates: Gates) -> None:
    bob = gates.key("bob")
    before = gates.rows()
    assert [gates.chat(bob) for _ in range(3)] == [200] * 3
    gates.until_rows(before + 3)
    process = gates.process()
    gates.on(f"systemctl kill -s KILL {UNIT}")
    gates.until(f"[ $(systemctl show -P MainPID {UNIT}) -gt 0 ] && [ $(systemctl show -P MainPID {UNIT}) != {process} ] && echo new", "new")
    gates.until_ready()
    assert gates.rows() == before + 3
    assert gates.chat(bob) == 200
    assert gates.chat(gates.key("alice")) == 429, "what alice has had still counts"
    assert "restarts 1" in gates.told("plan", code=3)
    gates.on(f"systemctl reset-failed {UNIT}")
    gates.told("plan")


def test_known_keys_work_while_postgres_is_away_and_no_row_is_lost(gates: Gates) -> None:
    bob, before, process = gates.key("bob"), gates.rows(), gates.process()
    gates.on("systemctl stop postgresql 'postgresql@*'")
    assert [gates.chat(bob) for _ in range(3)] == [200] * 3
    assert gates.chat("sk-nobodys") in (401, 503)
    gates.on("systemctl start postgresql")
    gates.until_rows(before + 4)
    assert gates.chat("sk-nobodys") == 401 and gates.process() == process
    gates.told("plan")


def test_an_edited_configuration_is_shown_and_mended(gates: Gates) -> None:
    gates.on('sed -i \'s/"drain_s": 900/"drain_s": 1/\' /etc/paddock/gateway/gateway.json')
    said = gates.told("plan", code=3)
    assert "/etc/paddock/gateway/gateway.json" in said
    gates.fleet.up()
    gates.on("grep '\"drain_s\": 300' /etc/paddock/gateway/gateway.json")
    gates.told("plan")


def test_the_site_before_the_gateway_asks_for_a_certificate_and_then_for_a_key(gates: Gates, tmp_path: Path) -> None:
    gates.told("certs", "export", "laptop")
    mine, at = gates.fleet.state / "export" / "laptop", "https://llama.home.example"
    curl = ["curl", "-sS", "--connect-to", f"llama.home.example:443:127.0.0.1:{gates.site}", "--cacert", str(mine / "ca.pem")]
    own = ["--cert", str(mine / "cert.pem"), "--key", str(mine / "key.pem")]
    assert subprocess.run([*curl, f"{at}/v1/models"], capture_output=True, check=False).returncode != 0
    header = tmp_path / "header"
    for key, status in ((gates.key("bob"), "200"), ("sk-nobodys", "401")):
        header.write_text(f"Authorization: Bearer {key}\n")
        command = [*curl, *own, "-H", f"@{header}", "-o", str(tmp_path / "answer"), "-w", "%{http_code}"]
        assert subprocess.run([*command, f"{at}/v1/models"], capture_output=True, text=True, check=True).stdout == status
        assert subprocess.run([*command, f"{at}/slots"], capture_output=True, text=True, check=True).stdout in ("403", "404")


@pytest.fixture(scope="module")
def later(gates: Gates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product with a gateway of a later version, whose tables are others."""
    return extended(tmp_path_factory.mktemp("later") / "product").root


def test_an_upgrade_lets_a_stream_that_runs_end_whole(gates: Gates, later: Path) -> None:
    with (later / "services/gateway/paddock_gateway/app.py").open("a") as file:
        file.write("# later\n")
    gates.fleet.product = later
    read: list[bytes] = []
    body = {"model": "long", "messages": HI, "stream": True, "max_tokens": LONG, "ignore_eos": True}

    def reads() -> None:
        with _opened(gates.urls["box"] + "/v1/chat/completions", gates.key("bob"), body) as answer:
            for line in answer:
                read.append(line)

    reader, process = threading.Thread(target=reads), gates.process()
    environment = gates.on("readlink /opt/paddock/gateway/current")
    upgrade = gates.fleet.start("up", "--lab", "--yes")
    gates.until("ls -d /var/lib/paddock/stage.* >/dev/null 2>&1 && echo landing", "landing")
    reader.start()
    while not read:
        time.sleep(0.01)
    gates.on("systemctl kill -s STOP llama-server-long.service")
    gates.until(f"systemctl show -P ActiveState {UNIT}", "deactivating")
    gates.on("systemctl kill -s CONT llama-server-long.service")
    said, _ = upgrade.communicate(timeout=1800)
    assert upgrade.returncode == 0, said
    reader.join(60)
    events = [line for line in read if line.startswith(b"data: ")]
    assert events[-1].strip() == b"data: [DONE]" and len(events) >= LONG
    assert gates.process() != process and gates.on("readlink /opt/paddock/gateway/current") != environment


def test_an_up_and_a_gateway_killed_in_the_middle_of_a_migration_leave_the_data_whole(gates: Gates, later: Path) -> None:
    package = later / "services" / "gateway" / "paddock_gateway"
    (package / "store/migrations/versions/v0002_later.py").write_text(LATER)
    database = package / "store" / "database.py"
    database.write_text(database.read_text().replace('REVISION = "0001"', 'REVISION = "0002"'))
    dave = gates.told("keys", "create", "dave", "--on", "box").strip()
    assert gates.chat(dave) == 200
    waiting = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {MIGRATES} AND NOT granted"
    holder = f"SELECT pg_advisory_lock({MIGRATES}); SELECT pg_sleep(600)"
    gates.on(f"systemd-run --quiet --unit=holder --uid=postgres psql -Xd paddock_gateway -c {json.dumps(holder)}")
    upgrade = gates.fleet.start("up", "--lab", "--yes")
    gates.until(SQL.format("postgres", "postgres", waiting), "1")
    os.killpg(upgrade.pid, signal.SIGKILL)
    upgrade.communicate()
    gates.on(f"systemctl kill -s KILL {UNIT}")
    gates.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_advisory_lock({MIGRATES})%'")
    gates.until(SQL.format("postgres", "paddock_gateway", "SELECT version_num FROM alembic_version"), "0002")
    gates.until_ready()
    gates.on(f"systemctl reset-failed {UNIT}")
    said = gates.fleet.up().stdout
    assert gates.sql("SELECT version_num FROM alembic_version") == "0002", said
    assert gates.chat(dave) == gates.chat(gates.key("bob")) == 200
    assert gates.chat(gates.key("alice")) == 429
    gates.told("verify")


def test_a_user_who_leaves_the_inventory_is_refused_after_up(gates: Gates) -> None:
    bob, alice = gates.key("bob"), gates.key("alice")
    gates.fleet.write(INVENTORY.replace("  bob:\n", ""))
    assert gates.chat(bob) == 200
    gates.fleet.up()
    assert gates.chat(bob) == gates.chat(bob, host="far") == 401
    assert gates.ask(alice)[0] == 200
    assert "left the inventory" in gates.told("keys", "list")


def test_teardown_leaves_the_data_alone_and_who_comes_back_has_them(gates: Gates) -> None:
    rows, erin = gates.rows(), gates.told("keys", "create", "erin", "--on", "far").strip()
    gates.told("teardown", "--yes")
    for host in ("box", "far"):
        assert gates.on("systemctl list-unit-files --no-legend 'paddock-*' 'llama-server*'", host=host, check=False) == ""
        assert gates.on("ls -d /etc/paddock /opt/paddock 2>/dev/null; getent passwd | grep paddock", host=host, check=False) == ""
        assert gates.on("stat -c '%U %a' /var/lib/paddock-gateway; find /var/lib/paddock-gateway -nouser", host=host) == "root 700"
    gates.fleet.up()
    gates.until_ready()
    assert gates.rows() >= rows > 0
    assert gates.chat(erin, host="far") == 200
