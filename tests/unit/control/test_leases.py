"""Runs that want the same hosts, over real SSH: one has all of them, and the other is told who that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control.deployment.leases import Leases  # isort: skip - first of all, for gevent
from control.ssh.host_keys import pin_all
from control.ssh.links import Links
from control.ssh.run import Run
from control.state.fleet import FleetState
from control.state.lock import Holder
from inventory.errors import PaddockError
from inventory.fleet import Host
from resources import lease
from resources.lease import Lease, lease_of
from tests.unit.control.loopback import Served, served

ANNA = Holder("a" * 16, "anna@desk", "up")
BEN = Holder("b" * 16, "ben@lap", "models pull")
NAMES = ("one", "three", "two")

Begin = Callable[..., Leases]


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Served]]:
    """Three hosts, each with a /run and a /proc/uptime of its own, below a directory that its environment names."""
    shell = lease._shell
    monkeypatch.setattr(lease, "_shell", lambda name: shell(name).replace("/run/paddock", "$ROOT/run").replace("/proc/", "$ROOT/"))
    with ExitStack() as stack:
        found = {}
        for name in NAMES:
            (tmp_path / name).mkdir()
            (tmp_path / name / "uptime").write_text("1000.00 1.00\n")
            found[name] = stack.enter_context(served(environment={"ROOT": str(tmp_path / name)}))
        yield found


@pytest.fixture
def begin(machines: dict[str, Served], home: Path, state: FleetState, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """A run of somebody's that has connected to the hosts."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    hosts = {
        name: Host.model_validate({"name": name, "address": each.address, "port": each.port, "host_key": each.key})
        for name, each in machines.items()
    }
    runs: list[Run] = []

    def connected(holder: Holder | None, tell: Callable[[str, str], None] = lambda host, line: None) -> Leases:
        run = Run(hosts, Links(hosts, state), tell=tell)
        assert pin_all(hosts.values(), run.links, lambda question: True) == {}
        run.connect()
        runs.append(run)
        return Leases(run, "home", holder)

    yield connected
    for run in runs:
        run.disconnect()


def held(directory: Path) -> dict[str, str]:
    """Host → whose lease holds there."""
    lines = {name: (directory / name / "run" / "lease") for name in NAMES}
    found = {name: path.read_text().split("\t") for name, path in lines.items() if path.exists()}
    return {name: fields[0] for name, fields in found.items() if fields[2] != "0"}


def test_of_two_runs_the_second_is_told_who_the_first_is_and_takes_nothing(begin: Begin, tmp_path: Path) -> None:
    anna, ben = begin(ANNA), begin(BEN)
    anna.take(["two", "one"], {})
    assert held(tmp_path) == {"one": ANNA.run, "two": ANNA.run}
    with pytest.raises(
        PaddockError, match=r"^fleet home: one: locked by anna@desk since \d\d:\d\d \(up; its lease lasts until .*--steal-lock"
    ):
        ben.take(NAMES, {})
    assert held(tmp_path) == {"one": ANNA.run, "two": ANNA.run}
    anna.give_back()
    assert held(tmp_path) == {}
    ben.take(NAMES, {})
    assert held(tmp_path) == dict.fromkeys(NAMES, BEN.run)


def test_a_run_that_gets_some_hosts_and_not_all_keeps_none(begin: Begin, tmp_path: Path) -> None:
    anna, ben = begin(ANNA), begin(BEN)
    anna.take(["two", "three"], {})
    with pytest.raises(PaddockError, match=r"^fleet home: three, two: locked by anna@desk"):
        ben.take(NAMES, {})
    ben.give_back()
    assert held(tmp_path) == {"two": ANNA.run, "three": ANNA.run}


def test_of_runs_that_begin_together_one_has_all_hosts(begin: Begin, tmp_path: Path) -> None:
    leases, refused = [begin(holder) for holder in (ANNA, BEN)], list[str]()

    def take(some: Leases) -> None:
        try:
            some.take(NAMES, {})
        except PaddockError as error:
            some.give_back()
            refused.append(str(error))

    taking = [threading.Thread(target=take, args=(each,)) for each in leases]
    for each in taking:
        each.start()
    for each in taking:
        each.join()
    (found,) = {*held(tmp_path).values()}
    assert held(tmp_path).keys() == {*NAMES} and len(refused) == 1
    assert f"locked by {'ben@lap' if found == BEN.run else 'anna@desk'} since " in refused[0]


def test_a_host_that_was_changed_since_it_was_looked_at_is_refused(begin: Begin, tmp_path: Path) -> None:
    anna, ben = begin(ANNA), begin(BEN)
    anna.take(NAMES, {})
    anna.give_back()
    with pytest.raises(PaddockError, match=r"one: changed by anna@desk after this run had looked at it \(up, begun at .*\): run it again$"):
        ben.take(NAMES, dict.fromkeys(NAMES))
    seen = Lease(ANNA.run, 0, None, "up", "anna@desk")
    ben.take(NAMES, dict.fromkeys(NAMES, seen))
    assert held(tmp_path) == dict.fromkeys(NAMES, BEN.run)


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        (Holder(BEN.run, BEN.who, BEN.verb, (ANNA.run,)), "it was started here, and does not run any more"),
        (Holder(BEN.run, BEN.who, BEN.verb, steals=True), "its lease was still valid, and --steal-lock was given"),
    ],
)
def test_what_is_taken_over_is_told_with_whose_it_was_and_why(begin: Begin, tmp_path: Path, holder: Holder, why: str) -> None:
    begin(ANNA).take(["one"], {})
    told: list[str] = []
    ben = begin(holder, lambda host, line: told.append(f"{host}: {line}"))
    ben.require_free({"one": Lease(ANNA.run, 0, 100, "up", "anna@desk")})
    ben.take(NAMES, {})
    assert held(tmp_path) == dict.fromkeys(NAMES, BEN.run)
    assert (
        len(told) == 1
        and told[0].startswith("one: taken over from anna@desk, who began to change it at ")
        and told[0].endswith(f"(up): {why}")
    )


def test_one_that_has_run_out_is_taken_over_and_told(begin: Begin, tmp_path: Path) -> None:
    begin(ANNA).take(["one"], {})
    (tmp_path / "one" / "uptime").write_text(f"{1000 + lease.LASTS_S}.00 1.00\n")
    told: list[str] = []
    ben = begin(BEN, lambda host, line: told.append(line))
    ben.require_free({"one": lease_of(f"{ANNA.run}\t180\t0\tup\tanna@desk")})
    ben.take(NAMES, {})
    assert held(tmp_path)["one"] == BEN.run and "its lease had run out" in told[0]


def test_a_look_that_finds_a_run_at_work_ends_one_that_would_change_something(begin: Begin) -> None:
    found = {"one": Lease(ANNA.run, 60, 100, "up", "anna@desk"), "two": None}
    with pytest.raises(PaddockError, match="fleet home: one: locked by anna@desk"):
        begin(BEN).require_free(found)
    begin(ANNA).require_free(found)
    begin(None).require_free(found)


def test_a_host_that_does_not_answer_has_failed_and_the_others_are_held(begin: Begin, machines: dict[str, Served], tmp_path: Path) -> None:
    anna = begin(ANNA)
    machines["one"].die()
    anna.take(NAMES, {})
    assert anna.held == {"two", "three"} and anna.run.failures.keys() <= {"one"}
    anna.give_back()
    assert held(tmp_path) == {}


def test_a_lease_is_renewed_as_long_as_the_run_lasts(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_S", 0.01)
    anna = begin(ANNA)
    anna.take(["one"], {})
    (tmp_path / "one" / "uptime").write_text("1170.00 1.00\n")
    ends, waited = tmp_path / "one" / "run" / "lease", threading.Event()
    while ends.read_text().split("\t")[2] != str(1170 + lease.LASTS_S):
        waited.wait(0.01)
    anna.give_back()
    assert held(tmp_path) == {}


def test_a_renewal_under_way_does_not_keep_a_lease_from_being_given_back(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED_S", 0.01)
    monkeypatch.setattr(lease, "BRIEFLY_S", 0)
    renewing = lease.renewing
    monkeypatch.setattr(lease, "renewing", lambda id: f'{renewing(id)}touch "$ROOT/renewing"; sleep 0.5\n')
    anna = begin(ANNA)
    anna.take(["one"], {})
    waited = threading.Event()
    while not (tmp_path / "one" / "renewing").exists():
        waited.wait(0.01)
    anna.give_back()
    assert held(tmp_path) == {}


def test_a_run_without_the_lock_of_the_fleet_takes_none(begin: Begin, tmp_path: Path) -> None:
    alone = begin(None)
    alone.take(NAMES, {})
    alone.give_back()
    assert held(tmp_path) == {} and not (tmp_path / "one" / "run").exists()


def test_a_run_that_was_robbed_hears_of_it_at_its_end(begin: Begin) -> None:
    anna, theirs = begin(ANNA), Lease(BEN.run, 60, None, "up", "ben@lap")
    assert anna.lost(theirs).startswith("another run has taken it over: ben@lap (up) at ")
    assert anna.lost(Lease(ANNA.run, 60, 100, "up", "anna@desk")) == anna.lost(None) == begin(None).lost(theirs) == ""
