"""The lease that a run has of a host: taken, renewed, given back and refused by the host's own shell."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from deploys.applying import RECEIVE
from resources import lease, scripts
from resources.lease import LASTS_S, Lease, Verdict, lease_of, lost_to, verdict_of
from resources.probe import Actual, actual_of, probe_script
from resources.steps import Steps, call

MINE, THEIRS, THIRD = "a" * 16, "b" * 16, "c" * 16


@dataclass
class Machine:
    """One that has run for so many `seconds`, below a directory."""

    directory: Path
    seconds: int = 1000

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        (self.directory / "uptime").write_text(f"{self.seconds}.42 7777.01\n")
        for path in ("/run/paddock", "/var/lib/paddock"):
            script = script.replace(path, f"{self.directory}{path}")
        script = script.replace("/proc/uptime", str(self.directory / "uptime"))
        (self.directory / "run").mkdir(exist_ok=True)
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done

    def take(self, id: str = MINE, *, seen: str = "any", steals: bool = False, dead: Iterable[str] = ()) -> tuple[Verdict, Lease | None]:
        script = lease.taking(id, "up", f"{id[0]}@desk", seen, steals=steals, dead=dead)
        return verdict_of(self.run(script).stdout.splitlines())

    @property
    def probed(self) -> Actual:
        return actual_of(self.run(probe_script((), "echo this")).stdout.splitlines(), [])

    def steps(self, id: str, *calls: str) -> subprocess.CompletedProcess[str]:
        """What a run's command with these calls does."""
        steps = Steps([call("lease_keep", id, LASTS_S), *calls])
        packed = self.directory / "packed"
        functions = scripts().replace("/run/paddock", f"{self.directory}/run/paddock").replace("/proc/uptime", f"{self.directory}/uptime")
        packed.write_bytes(steps.archive(functions.encode()))
        (self.directory / "var" / "lib").mkdir(parents=True, exist_ok=True)
        return self.run(f"base64 {packed} | sh -c {shlex.quote(RECEIVE)}", check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def other(machine: Machine, id: str = THEIRS) -> Lease | None:
    found = machine.probed.lease
    return found if found and found.id == id else None


def test_a_lease_that_nobody_has_is_taken_and_the_probe_tells_of_it(machine: Machine) -> None:
    assert machine.probed.lease is None
    assert machine.take() == ("taken", None)
    machine.seconds += 20
    assert machine.probed.lease == Lease(MINE, 20, LASTS_S - 20, "up", "a@desk")


def test_one_that_holds_is_left_alone(machine: Machine) -> None:
    machine.take(THEIRS)
    machine.seconds += LASTS_S - 1
    assert machine.take() == ("held", Lease(THEIRS, LASTS_S - 1, 1, "up", "b@desk"))
    assert other(machine)


def test_one_that_has_run_out_is_taken_over(machine: Machine) -> None:
    machine.take(THEIRS)
    machine.seconds += LASTS_S
    assert machine.take(seen=THEIRS) == ("over", Lease(THEIRS, LASTS_S, 0, "up", "b@desk"))
    assert not other(machine)


def test_one_that_is_renewed_holds_on_and_tells_when_it_was_taken(machine: Machine) -> None:
    machine.take(THEIRS)
    for _ in range(5):
        machine.seconds += LASTS_S - 1
        machine.run(lease.renewing(THEIRS))
    found = other(machine)
    assert found and found.age_s == 5 * (LASTS_S - 1) and machine.take()[0] == "held"


def test_one_that_was_given_back_is_free_and_is_not_renewed_any_more(machine: Machine) -> None:
    machine.take(THEIRS)
    machine.run(lease.giving_back(THEIRS))
    machine.run(lease.renewing(THEIRS))
    found = other(machine)
    assert found and found.left_s is None and found.words() == ""
    assert machine.take(seen=THEIRS)[0] == "taken"


def test_a_run_that_is_known_to_be_dead_holds_nothing(machine: Machine) -> None:
    machine.take(THEIRS)
    assert machine.take(dead=[THIRD])[0] == "held"
    assert machine.take(dead=[THIRD, THEIRS])[0] == "dead"


def test_one_that_holds_is_stolen_where_that_is_said(machine: Machine) -> None:
    machine.take(THEIRS)
    assert machine.take(steals=True)[0] == "stolen"
    machine.run(lease.renewing(THEIRS))
    machine.run(lease.giving_back(THEIRS))
    found = machine.probed.lease
    assert found and found.id == MINE and found.holds


@pytest.mark.parametrize("seen", ["-", THIRD])
def test_a_host_that_another_run_has_changed_since_it_was_looked_at_is_refused(machine: Machine, seen: str) -> None:
    machine.take(THEIRS)
    machine.run(lease.giving_back(THEIRS))
    assert machine.take(seen=seen)[0] == "changed"
    assert machine.take(seen=seen, steals=True)[0] == "changed"
    assert other(machine)


def test_a_machine_that_has_restarted_has_forgotten_whose_it_was(machine: Machine) -> None:
    machine.take(THEIRS)
    (machine.directory / "run/paddock/lease").unlink()
    assert machine.take(seen=THEIRS) == ("taken", None)


NO_LEASE = ["", "\n", "x", THEIRS, "\t\t", *(f"{THEIRS}\t{times}\tup\tb" for times in ("1\tx", "010\t9999", "1\t99999999999", "-1\t9"))]


@pytest.mark.parametrize("text", NO_LEASE)
def test_a_line_that_makes_no_sense_is_no_lease(machine: Machine, text: str) -> None:
    (machine.directory / "run/paddock").mkdir(parents=True)
    (machine.directory / "run/paddock/lease").write_text(text)
    assert machine.probed.lease is None
    assert machine.take(seen="-") == ("taken", None)


def test_who_and_what_come_back_as_they_were_said(machine: Machine) -> None:
    who = "o'neil $(id)@desk; rm -rf \\t %s"
    machine.run(lease.taking(MINE, "certs issue", who, "any", steals=False, dead=()))
    found = machine.probed.lease
    assert found and (found.verb, found.who) == ("certs issue", who)


def test_a_link_where_its_directory_is_to_be_is_refused(machine: Machine) -> None:
    (machine.directory / "run").mkdir()
    (machine.directory / "run/paddock").symlink_to(machine.directory)
    done = machine.run(lease.taking(MINE, "up", "a", "any", steals=False, dead=()), check=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("paddock-at: directory:")
    assert "it is a symbolic link to" in done.stderr and not (machine.directory / "lease").exists()


# What a run sends


def test_steps_renew_the_lease_before_and_after_whatever_they_take(machine: Machine) -> None:
    machine.take()
    machine.seconds += 100
    slow = f"echo {machine.seconds + 1000}.00 1.0 >{machine.directory}/uptime; lease_read; lease_line"
    done = machine.steps(MINE, "lease_read; lease_line", slow, "false")
    assert done.returncode == 1, done.stderr
    lasts, ran_out = (lease_of(line) for line in done.stdout.splitlines())
    assert lasts and lasts.left_s == LASTS_S and ran_out and ran_out.left_s == LASTS_S - 1000
    machine.seconds += 1000
    found = machine.probed.lease
    assert found and found.left_s == LASTS_S


def test_a_run_that_has_lost_its_lease_changes_nothing_more_and_is_told_to_whom(machine: Machine) -> None:
    machine.take()
    machine.seconds += LASTS_S
    machine.take(THEIRS)
    done = machine.steps(MINE, f"touch {machine.directory}/changed", f"undone() {{ touch {machine.directory}/undone; }}")
    assert done.returncode == 1 and not (machine.directory / "changed").exists() and not (machine.directory / "undone").exists()
    assert "another run has taken it over: b@desk (up) at " in lost_to(done.stderr.splitlines())
    assert other(machine)


def test_what_another_run_keeps_is_not_put_back_by_one_that_has_lost_its_lease(machine: Machine) -> None:
    machine.take(THEIRS)
    kept = machine.directory / "var/lib/paddock/kept/x.service"
    kept.mkdir(parents=True)
    (kept / "paths").write_text("")
    assert machine.steps(MINE).returncode == 1 and kept.exists()


def test_a_run_whose_lease_ran_out_and_was_wanted_by_nobody_goes_on(machine: Machine) -> None:
    machine.take()
    machine.seconds += 10 * LASTS_S
    assert machine.steps(MINE, "true").returncode == 0
    found = machine.probed.lease
    assert found and found.holds


def test_a_run_that_a_restarted_machine_does_not_know_changes_nothing(machine: Machine) -> None:
    done = machine.steps(MINE, f"touch {machine.directory}/changed")
    assert done.returncode == 1 and "does not know of this run any more" in done.stderr
    assert not (machine.directory / "changed").exists()


# In words


def test_a_lease_says_who_since_when_and_until_when() -> None:
    noon = datetime.now().astimezone().replace(hour=12, minute=0, second=0)
    found = Lease(THEIRS, 600, 120, "up", "anna@desk", noon)
    assert found.words() == "anna@desk has been changing it since 11:50 (up), with a lease until 12:02"
    assert Lease(THEIRS, 600, -5, "up", "anna@desk", noon).words() == (
        "a run of anna@desk, since 11:50 (up), has died: its lease has run out, and the next run takes it over"
    )
    before = noon - timedelta(days=2)
    assert Lease(THEIRS, 600, 120, "up", "anna@desk", before).since == f"{before:%Y-%m-%d} 11:50"


@pytest.mark.parametrize("lines", [[], [""], ["held"], ["held\tx"], ["changed\t"], ["well"], [f"held\t{THEIRS}\t1\t2\tup"]])
def test_an_answer_that_makes_no_sense_is_none(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="whose lease"):
        verdict_of(lines)
