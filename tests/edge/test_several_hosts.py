"""A site over several hosts: whichever of its servers dies, clients are answered by another, through an old Caddy and a new one.

Of the three servers one is on the host of `old` itself, `far` is reached through a tunnel, and `bare` in clear text.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
import yaml
from edge_fleet import Door
from newer_caddy import newer_caddy

from lab.engine import engine
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

DOORS, POOL = ("old", "new"), ("old", "far", "bare")
CALLERS, PAUSE_S = 3, 0.1
QUIET_S = 15
"""How long a host says nothing, and half of the longest wait for a client meanwhile."""
BACK_S = 60
"""Until a server that is back is asked again: the cool-down, a health check, and the model that it reads."""


def inventory(body_limit_mib: int = 8) -> str:
    base = {"base": {"time": "elsewhere"}}
    serving = {"llama_cpp": {"ui": False}, "models": None, "llama_server": {"listen": "0.0.0.0:8080", "models": ["endless"]}}
    bare = {"llama_server": {"encrypted": False, "models": ["endless", "more"]}}
    leads = {"old": "pool", "new": {"model": "endless"}}
    caddy = {at: {"sites": {f"{at}.home.example": {"upstream": leads[at], "body_limit_mib": body_limit_mib}}} for at in DOORS}
    # An answer goes on for as long as its context has room, and that is no larger than the model says.
    preset = {"ctx-size": 524288, "override-kv": "llama.context_length=int:524288", "parallel": 4, "kv-unified": True}
    preset |= {"ignore-eos": True, "threads": 1}
    return yaml.safe_dump(
        {
            "fleet": "several",
            "domain": "home.example",
            "networks": ["192.0.2.0/24"],
            "settle": 0,
            "groups": {"pool": {"hosts": list(POOL), "roles": {**base, **serving}}},
            "hosts": {
                "old": {"address": "192.0.2.10", "roles": {"caddy": caddy["old"], "admin": {"listen": "0.0.0.0:8079"}}},
                "new": {"address": "192.0.2.11", "roles": {**base, "caddy": {**caddy["new"], "package": newer_caddy()}}},
                "far": {"address": "192.0.2.12"},
                "bare": {"address": "192.0.2.13", "roles": bare},
            },
            "models": {"endless": {"preset": preset}, "more": {"preset": {"ctx-size": 1024}}},
            "clients": {"laptop": {"admin": True}, "phone": None},
        }
    )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("several", tmp_path_factory.mktemp("several"), inventory(), ready=True) as fleet:
        fleet.up()
        yield fleet


def context(door: Door, client: str = "phone") -> ssl.SSLContext:
    return door.context(ssl.TLSVersion.TLSv1_3, door.identity(client))


def body(tokens: int, stream: bool = False) -> bytes:
    return json.dumps({"model": "endless", "prompt": "Hello", "max_tokens": tokens, "stream": stream}).encode()


JSON = {"Content-Type": "application/json"}


@dataclass
class Asked:
    """One request: when it began and ended, and what came of it, 200 or what else."""

    began: float
    ended: float
    said: str


@contextmanager
def load(door: Door) -> Iterator[list[Asked]]:
    """Clients ask at a site for as long as this lasts."""
    heard: list[Asked] = []
    over, trusted = threading.Event(), context(door)

    def ask() -> None:
        while not over.wait(PAUSE_S):
            began = time.time()
            try:
                status, answer = door.ask("POST", "/v1/completions", trusted, JSON, body(4))
                said = "200" if status == 200 and b"text_completion" in answer else f"{status} {answer[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            heard.append(Asked(began, time.time(), said))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(CALLERS)]
    for each in threads:
        each.start()
    try:
        yield heard
    finally:
        over.set()
        for each in threads:
            each.join(120)


@dataclass
class Stream:
    """An answer that goes on, as it comes."""

    door: Door
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    read: int = 0

    def follow(self) -> None:
        connection = self.door.connect(context(self.door))
        self.socket = connection.sock
        try:
            connection.request("POST", "/v1/completions", body(-1, stream=True), JSON)
            answer = connection.getresponse()
            while line := answer.readline():
                self.read += len(line)
                self.begun.set()
                time.sleep(0)  # where threads are gevent's, who always finds something to read would leave no turn to others
        except (OSError, ValueError, http.client.HTTPException):
            pass
        self.ended.set()

    def goes_on(self) -> bool:
        """Whether more comes than was on its way."""
        time.sleep(1)
        before, until = self.read, time.monotonic() + 10
        while self.read == before and time.monotonic() < until and not self.ended.is_set():
            time.sleep(0.1)
        return self.read > before


@contextmanager
def streams(door: Door, count: int) -> Iterator[list[Stream]]:
    """One after another, while nobody else asks, so that each server has one of them."""
    found = [Stream(door) for _ in range(count)]
    try:
        for each in found:
            threading.Thread(target=each.follow, daemon=True).start()
            assert each.begun.wait(120)
        yield found
    finally:
        for each in found:
            with suppress(OSError):
                each.socket.shutdown(socket.SHUT_RDWR)
            each.ended.wait(10)


def served(fleet: LabFleet, host: str) -> int:
    """How many requests the server of a host has been asked since it started."""
    script = (
        "journalctl -q --sync; journalctl -q -o cat -u llama-server _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID llama-server)"
    )
    return int(fleet.on(host, f"({script}) | grep -c 'proxying request to model endless' || true"))


def until_asked(fleet: LabFleet, host: str) -> None:
    late, before = time.monotonic() + BACK_S, served(fleet, host)
    while served(fleet, host) <= before:
        assert time.monotonic() < late, f"{host} is not asked again"
        time.sleep(0.5)


def broken(heard: list[Asked], gone: float) -> list[Asked]:
    """The requests that failed and began after a server had gone. Of those that it had got each caller has one."""
    failed = [each for each in heard if each.said != "200"]
    print(
        f"several: {len(heard)} asked since {gone:.1f} and before, failed {failed}, slowest {max(each.ended - each.began for each in heard):.1f} s",
        flush=True,
    )
    assert len(failed) <= CALLERS
    return [each for each in failed if each.began > gone]


def test_each_server_gets_its_share_and_the_next_run_changes_nothing(fleet: LabFleet) -> None:
    for at in DOORS:
        door = Door.of(fleet, at)
        before = {host: served(fleet, host) for host in POOL}
        trusted = context(door)
        for _ in range(30):
            assert door.ask("POST", "/v1/completions", trusted, JSON, body(4))[0] == 200
        assert all(served(fleet, host) > before[host] for host in POOL), at
    assert fleet.up().stdout.count(" 0 changed") == 4


@pytest.mark.parametrize("at", DOORS)
def test_no_request_fails_that_had_not_begun_on_a_server_that_is_killed_and_other_streams_go_on(fleet: LabFleet, at: str) -> None:
    door = Door.of(fleet, at)
    with ExitStack() as asking:
        with streams(door, len(POOL)) as opened:
            heard = asking.enter_context(load(door))
            time.sleep(1)
            try:
                fleet.on("far", "systemctl kill --signal=KILL llama-server; systemctl stop llama-server")
                gone = time.time()
                assert sorted(each.goes_on() for each in opened) == [False, True, True]
                time.sleep(5)
            finally:
                fleet.on("far", "systemctl start llama-server")
        until_asked(fleet, "far")
    assert not broken(heard, gone)
    assert len([each for each in heard if each.began > gone]) > 10


def test_a_host_that_says_nothing_any_more_holds_clients_up_for_seconds_and_is_asked_again(fleet: LabFleet) -> None:
    doors = [Door.of(fleet, at) for at in DOORS]
    container = fleet.host("bare").container
    with load(doors[0]) as one, load(doors[1]) as other:
        time.sleep(2)
        engine().run("pause", container)
        gone = time.time()
        try:
            time.sleep(QUIET_S)
        finally:
            engine().run("unpause", container)
        until_asked(fleet, "bare")
    for heard in (one, other):
        assert not broken(heard, gone)
        late = [each for each in heard if each.began > gone]
        assert max(each.ended - each.began for each in late) < 2 * QUIET_S  # and not the hour that an answer may take
        assert len([each for each in late if each.ended < gone + QUIET_S]) > 20


def test_clients_see_the_models_of_all_servers_and_administrators_no_admin_endpoint(fleet: LabFleet) -> None:
    for at in DOORS:
        door = Door.of(fleet, at)
        status, text = door.ask("GET", "/v1/models", context(door))
        assert status == 200 and {each["id"] for each in json.loads(text)["data"]} == {"endless", "more"}
        status, text = door.ask("GET", "/paddock/admin/preset", context(door, "laptop"))
        assert status == 404 and b"leads to several hosts" in text
    fleet.on("far", "systemctl stop llama-server")
    try:
        began = time.monotonic()
        door = Door.of(fleet, "new")
        assert door.ask("GET", "/v1/models", context(door))[0] == 200
        assert time.monotonic() - began < 5
    finally:
        fleet.on("far", "systemctl start llama-server")


def test_doors_are_brought_up_to_date_while_one_of_three_hosts_is_away(fleet: LabFleet) -> None:
    container = fleet.host("far").container
    fleet.write(inventory(body_limit_mib=9))
    engine().run("exec", container, "systemctl", "stop", "ssh.socket", "ssh.service", "llama-server")
    try:
        done = fleet.paddock("up", "--lab", "--yes", "--no-verify")
    finally:
        engine().run("exec", container, "systemctl", "start", "ssh.service", "llama-server")
    assert done.returncode == 1 and "far" in done.stdout + done.stderr
    for at in DOORS:
        assert "max_size 9MiB" in fleet.on(at, "cat /etc/caddy/paddock/sites.caddy")
        door = Door.of(fleet, at)
        assert door.ask("POST", "/v1/completions", context(door), JSON, body(4))[0] == 200
