"""Two operators on two machines, each with a copy of one state: one of them changes the fleet, and the other is told who that is."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.tripwire import HOLD, Call, tripwire
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import chance, spread

NAME = "rivals"
HOSTS = ("one", "two")
ROUNDS = spread("rounds of two operators", range(20), 3)
INSTALL = Call("apt-get", "*install*")

LOCKED = r"^fleet rivals-lab: ([a-z, ]+): locked by {who}@\S+ since \d\d:\d\d \(up; its lease lasts until \d\d:\d\d"
CHANGED = r"^fleet rivals-lab: ([a-z, ]+): changed by {who}@\S+ after this run had looked at it \(up, begun at \d\d:\d\d\): run it again"

WORKS = re.compile(r"^  (one|two)  ", re.MULTILINE)
"""A step that was carried out on a host."""


def inventory() -> str:
    roles = {"base": {"time": "elsewhere", "packages": ["hello"]}}
    hosts = {name: {"address": f"192.0.2.{at}", "roles": roles} for at, name in enumerate(HOSTS, 10)}
    return json.dumps({"fleet": NAME, "domain": "home.example", "hosts": hosts})


@dataclass(frozen=True)
class Operators:
    """Two control machines with the same state, and what each says."""

    anna: LabFleet
    ben: LabFleet

    def leave_work(self) -> None:
        """A package is to be installed on both hosts, and nobody is at work."""
        for host in HOSTS:
            self.anna.on(host, "dpkg --purge hello >/dev/null 2>&1; rm -f /run/paddock/lease")

    def begin(self, who: LabFleet, *arguments: str) -> subprocess.Popen[str]:
        return who.start("up", "--lab", "--yes", "--no-verify", *arguments)

    def up(self, who: LabFleet, *arguments: str, code: int = 0) -> str:
        found, said = ended(self.begin(who, *arguments))
        assert found == code, said
        return said

    def lease(self, host: str) -> list[str]:
        return self.anna.on(host, "cat /run/paddock/lease").rstrip("\n").split("\t")


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    directory = tmp_path_factory.mktemp(NAME)
    with lab_fleet(NAME, directory, inventory()) as anna:
        anna.environment["LOGNAME"] = "anna"
        anna.up("--no-verify")
        ben = LabFleet(NAME, directory / "other", {"LOGNAME": "ben"})
        shutil.copytree(anna.state, ben.state)
        ben.write(inventory())
        yield Operators(anna, ben)


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = run.communicate(timeout=300)
    print(said, flush=True)
    assert "Traceback" not in said
    return run.returncode, said


@pytest.mark.parametrize("number", ROUNDS)
def test_of_two_who_begin_at_once_one_runs_and_the_other_is_told_who_and_since_when(operators: Operators, number: int) -> None:
    operators.leave_work()
    apart_s = chance(f"round {number} of two operators").uniform(0, 1.5)
    order = (operators.anna, operators.ben) if number % 2 else (operators.ben, operators.anna)
    first = operators.begin(order[0])
    time.sleep(apart_s)
    second = operators.begin(order[1])
    outcomes = [ended(each) for each in (first, second)]
    assert sorted(code for code, _ in outcomes) == [0, 1]
    winner = next(fleet for fleet, (code, _) in zip(order, outcomes, strict=True) if code == 0)
    (refused,) = (said for code, said in outcomes if code)
    who = winner.environment["LOGNAME"]
    assert re.search(LOCKED.format(who=who), refused, re.MULTILINE) or re.search(CHANGED.format(who=who), refused, re.MULTILINE)
    assert not WORKS.search(refused), "it has changed something"
    for host in HOSTS:
        assert "install ok" in operators.anna.on(host, "dpkg-query -W -f '${Status}' hello")
        assert operators.lease(host)[2] == "0"


def test_while_one_is_at_work_the_other_sees_it_and_is_refused(operators: Operators) -> None:
    operators.leave_work()
    with tripwire(operators.anna.host("two").container, INSTALL, HOLD) as wire:
        run = operators.begin(operators.anna)
        wire.tripped()
        refused = operators.up(operators.ben, code=1)
        limited = operators.up(operators.ben, "--limit", "one", code=1)
        plan = operators.ben.paddock("plan", "--lab").stdout
        status = json.loads(operators.ben.paddock("status", "--lab", "--json").stdout)
        wire.release()
        code, said = ended(run)
    assert code == 0, said
    found = re.search(LOCKED.format(who="anna"), refused, re.MULTILINE)
    assert found and found[1] == "one, two" and re.search(LOCKED.format(who="anna"), limited, re.MULTILINE)
    assert re.search(r"^two: anna@\S+ has been changing it since \d\d:\d\d \(up\), with a lease until \d\d:\d\d$", plan, re.MULTILINE)
    assert re.match("anna@", status["two"]["lease"]["who"]) and status["two"]["lease"]["verb"] == "up"
    assert " 0 changed" in operators.up(operators.ben)


def test_on_hosts_of_their_own_both_run_from_two_machines_and_one_after_the_other_from_one(operators: Operators) -> None:
    operators.leave_work()
    with tripwire(operators.anna.host("two").container, INSTALL, HOLD) as wire:
        run = operators.begin(operators.anna, "--limit", "two")
        wire.tripped()
        beside = operators.up(operators.ben, "--limit", "one")
        here = operators.up(operators.anna, "--limit", "one", code=1)
        wire.release()
        code, said = ended(run)
    assert code == 0, said
    assert re.search(r"^  one  ", beside, re.MULTILINE) and not re.search(r"^  two  ", beside, re.MULTILINE)
    assert re.search(r"^fleet rivals-lab: locked by anna@\S+ since \d\d:\d\d \(up, pid \d+\): wait for it, or stop it$", here, re.MULTILINE)
    assert {operators.lease(host)[4].partition("@")[0] for host in HOSTS} == {"anna", "ben"}
    assert " 0 changed" in operators.up(operators.anna) and " 0 changed" in operators.up(operators.ben)


def killed_at_work(operators: Operators) -> None:
    """Anna's run, in the middle of an installation."""
    operators.leave_work()
    with tripwire(operators.anna.host("one").container, INSTALL, HOLD) as wire:
        run = operators.begin(operators.anna)
        wire.tripped()
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        wire.release()


def test_who_was_killed_goes_on_at_once_from_the_same_machine_and_not_from_another(operators: Operators) -> None:
    killed_at_work(operators)
    assert re.search(LOCKED.format(who="anna"), operators.up(operators.ben, code=1), re.MULTILINE)
    again = operators.up(operators.anna)
    assert len(re.findall(r"^  (?:one|two)  taken over from anna@.*: it was started here, and does not run any more$", again, re.M)) == 2


def test_the_lock_of_a_dead_run_is_stolen_from_another_machine(operators: Operators) -> None:
    killed_at_work(operators)
    stolen = operators.up(operators.ben, "--steal-lock")
    assert len(re.findall(r"taken over from anna@.*: its lease was still valid, and --steal-lock was given$", stolen, re.M)) == 2
    assert " 0 changed" in operators.up(operators.anna)


def test_a_lease_that_has_run_out_is_told_and_taken_over(operators: Operators) -> None:
    killed_at_work(operators)
    for host in HOSTS:  # three minutes later
        operators.anna.on(host, r"awk -F '\t' -v OFS='\t' '{ $3 = 1; print }' /run/paddock/lease >/tmp/l; mv /tmp/l /run/paddock/lease")
    plan = operators.ben.paddock("plan", "--lab").stdout
    assert re.search(
        r"^one: a run of anna@\S+, since .* \(up\), has died: its lease has run out, and the next run takes it over$", plan, re.M
    )
    assert len(re.findall(r"taken over from anna@.*: its lease had run out$", operators.up(operators.ben), re.M)) == 2


def test_a_run_that_is_robbed_while_it_lives_changes_nothing_more(operators: Operators) -> None:
    operators.leave_work()
    with tripwire(operators.anna.host("one").container, INSTALL, HOLD) as wire:
        robbed = operators.begin(operators.anna)
        wire.tripped()
        thief = operators.begin(operators.ben, "--steal-lock")
        while operators.lease("one")[4].partition("@")[0] != "ben":
            time.sleep(0.2)
            assert thief.poll() is None, thief.communicate()[0]
        wire.release()
        (code, said), (stolen, of_thief) = ended(robbed), ended(thief)
    assert stolen == 0, of_thief
    assert code == 1 and re.search(r"^one: another run has taken it over: ben@\S+ \(up\) at \d\d:\d\d\.", said, re.MULTILINE), said


def test_an_interrupted_run_gives_its_leases_back(operators: Operators) -> None:
    operators.leave_work()
    with tripwire(operators.anna.host("one").container, INSTALL, HOLD) as wire:
        run = operators.begin(operators.anna)
        wire.tripped()
        os.killpg(run.pid, signal.SIGINT)
        code, said = ended(run)
        wire.release()
    assert code == 1 and "interrupted" in said
    assert {operators.lease(host)[2] for host in HOSTS} == {"0"}
    assert "taken over" not in operators.up(operators.ben)
