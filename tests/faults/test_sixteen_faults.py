"""Four faults in the middle of four works: the old service answers, the operator is told, and the same again comes to its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import pytest

from tests.faults.sixteen_fleet import OTHER, Sixteen, Told, sixteen_fleet
from tests.faults.tripwire import HOLD, Call, tripwire, until
from tests.share import spread, turn

pytestmark = turn(1, of=5)

UPGRADE = ("upgrade", "--yes", "--no-measure", "--soak", "1")
UP = ("up", "--yes", "--no-verify")


Moment = AbstractContextManager[tuple[Callable[[], None], Callable[[], None]]]
"""What waits until it has come, and what has those that wait there go on."""


class Work:
    """What is being done when something happens. `changes` is said before; the fault comes at `its_moment`, and what waits there goes on
    after it."""

    verb: tuple[str, ...]

    def changes(self, fleet: Sixteen) -> None:
        raise NotImplementedError

    def its_moment(self, fleet: Sixteen) -> Moment:
        raise NotImplementedError

    def is_done(self, fleet: Sixteen) -> None:
        """What is to be so once the work is done."""


@contextmanager
def held(fleet: Sixteen, call: Call) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    with tripwire(fleet.container, call, HOLD) as wire:
        yield lambda: wire.tripped(1200), wire.release


class Build(Work):
    """Each time a release that nobody has: its objects are compiled already, its configuration is another."""

    verb, number = UPGRADE, 0

    def changes(self, fleet: Sixteen) -> None:
        Build.number += 1
        fleet.options = {"PADDOCK_TRY": Build.number}

    @contextmanager
    def its_moment(self, fleet: Sixteen) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        some = (
            "find /var/lib/paddock/build -path '*/ggml-cpu.dir/*.o' 2>/dev/null | grep -q . && pgrep -u paddock-build -x ninja >/dev/null"
        )
        yield lambda: until(fleet.container, f"{{ {some}; }}", 1200), lambda: None


class Switch(Work):
    """To and fro between two releases that lie there."""

    verb = UPGRADE

    def changes(self, fleet: Sixteen) -> None:
        fleet.options = {} if fleet.options == OTHER else OTHER

    def its_moment(self, fleet: Sixteen) -> Moment:
        return held(fleet, Call("systemctl", "*restart*' llama-server.service'"))


class Certificate(Work):
    """One more site: its key and its certificate have come to the host, and nothing of them lies in its place."""

    verb = UP

    def changes(self, fleet: Sixteen) -> None:
        fleet.sites.append(f"ai{len(fleet.sites)}.home.example")

    def its_moment(self, fleet: Sixteen) -> Moment:
        steps = f"grep -qs {fleet.sites[-1]} /var/lib/paddock/stage.*/steps"
        return held(fleet, Call("sync", "'-f /var/lib/paddock/stage.'*", when=steps))

    def is_done(self, fleet: Sixteen) -> None:
        fleet.answers(site=fleet.sites[-1])


class Migration(Work):
    """In the transaction that changes the tables of the gateway's database."""

    verb = UP

    def changes(self, fleet: Sixteen) -> None:
        fleet.migrates()

    @contextmanager
    def its_moment(self, fleet: Sixteen) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        fleet.inside("rm -rf /run/tripwire; mkdir -m 777 /run/tripwire; touch /run/tripwire/migration")
        try:
            yield lambda: until(fleet.container, "[ -s /run/tripwire/caller ]", 1200), lambda: release(fleet)
        finally:
            release(fleet)


def release(fleet: Sixteen) -> None:
    fleet.inside("mkdir -p /run/tripwire; touch /run/tripwire/released")


@dataclass(frozen=True)
class Fault:
    """`strikes` is what happens, `heals` what sets it right. `ends` says that the run ends by it: what waits goes on only then."""

    strikes: Callable[[Sixteen], None]
    heals: Callable[[Sixteen], None] = lambda fleet: None
    around: Callable[[Sixteen], AbstractContextManager[None]] = lambda fleet: nullcontext()
    back_s: int = 5
    ends: bool = False


FAULTS = {
    "the disk is full": Fault(Sixteen.fill, Sixteen.empty, Sixteen.small_disks),
    "the connection is cut": Fault(Sixteen.cut, ends=True),
    "the host is restarted": Fault(Sixteen.restart, back_s=120, ends=True),
    "the clock is set two days forward": Fault(lambda fleet: fleet.step(48), lambda fleet: fleet.step(0)),
    "the clock is set two days back": Fault(lambda fleet: fleet.step(-48), lambda fleet: fleet.step(0)),
}
WORKS = {"a build": Build(), "a switch": Switch(), "a certificate": Certificate(), "a migration": Migration()}

CASES = [(work, fault) for work in WORKS for fault in FAULTS]

WORDS = re.compile(r"^box: .{20,}$", re.MULTILINE)
"""The line that says what has become of the host."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sixteen]:
    with sixteen_fleet(tmp_path_factory.mktemp("sixteen")) as fleet:
        yield fleet


@pytest.mark.parametrize(("work", "fault"), spread("sixteen faults", CASES, 3))
def test_the_old_service_answers_and_the_same_again_comes_to_its_end(fleet: Sixteen, work: str, fault: str) -> None:
    doing, what = WORKS[work], FAULTS[fault]
    print(f"{work}: {fault}", flush=True)
    with what.around(fleet):
        doing.changes(fleet)
        fleet.describe()
        fleet.answers()
        rows = fleet.answered
        try:
            told = struck(fleet, doing, what)
            print(f"{work}: {fault}: exit {told.code}\n{told.out}\n{told.err}", flush=True)
            assert told.code == 0 or WORDS.search(told.err), told.out + told.err
            fleet.answers(what.back_s)
        finally:
            what.heals(fleet)
        began = time.monotonic()
        again = fleet.run(*doing.verb)
        print(f"{work}: {fault}: run again: exit {again.code}, {time.monotonic() - began:.0f} s", flush=True)
        assert again.code == 0, again.out + again.err
        fleet.settled()
        doing.is_done(fleet)
        fleet.answers()
        fleet.rows_are_whole(rows)


def struck(fleet: Sixteen, doing: Work, what: Fault) -> Told:
    """How a run ended in whose middle it happened."""
    with doing.its_moment(fleet) as (comes, goes_on), fleet.at_work(*doing.verb) as process:
        comes()
        what.strikes(fleet)
        if not what.ends:
            goes_on()
        told = fleet.told(process)
        if what.ends:
            goes_on()
        return told
