"""What a host keeps of the configurations that it has had: the order of its list, its bounds, and the shell that writes and reads it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources import scripts
from resources.history import KEPT, LINES_MOST, HostEntry, HostHistory, Line, history_of, listing_sh, releases_had
from resources.steps import Steps

FIRST = Line(1, "done", datetime(2026, 11, 28, 9, 0, tzinfo=UTC), "up", "home", "0.3.34-1f0c8a2b3c4d", "ada@desk", f"{1:016x}")


def line(number: int, verb: str = "up", state: str = "done", fleet: str = "home") -> Line:
    at = FIRST.at + timedelta(hours=number)
    return replace(FIRST, number=number, verb=verb, state=state, fleet=fleet, at=at, digest=f"{number:016x}", release=f"0.3.{number}-00")


def history(*lines: Line) -> HostHistory:
    return HostHistory(lines, frozenset(each.number for each in lines))


def test_a_line_comes_back_as_it_was() -> None:
    assert history_of([FIRST.text], ["1"]) == HostHistory((FIRST,), frozenset({1}))
    assert history_of([replace(FIRST, who="ada lovelace@desk\nx").text], []).lines[0].who == "ada_lovelace@desk_x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x1b]0;owned\x07",
        "1 done",
        FIRST.text.replace("1 done", "0 done", 1),
        FIRST.text.replace("1 done", f"{10**12} done", 1),
        FIRST.text.replace("1 done", "1 lost", 1),
        FIRST.text.replace("2026-11-28", "2026-13-99"),
        FIRST.text.replace("home", "../home"),
        f"{FIRST.text} more",
        FIRST.text[:-1],
        "x" * 1_000_000,
    ],
)
def test_what_is_no_line_is_left_out(text: str) -> None:
    assert history_of([text, FIRST.text], ["..", "1/..", "-1", "x" * 500]) == HostHistory((FIRST,))


def test_of_a_list_without_end_only_the_end_is_read() -> None:
    assert len(history_of([FIRST.text] * 100_000, map(str, range(1, 100_000))).lines) == LINES_MOST


def test_before_is_what_the_host_had_last_that_was_another() -> None:
    assert history().before is None and history(line(1)).before is None
    assert history(line(1), line(2)).before == line(1)
    assert history(line(1), line(2), line(2, "up")).before == line(1), "the same one again is no other"


def test_after_a_rollback_the_newer_one_is_before_and_after_that_the_older() -> None:
    back = line(1, "rollback")
    assert history(line(1), line(2), back).before == line(2)
    assert history(line(1), line(2), back, line(2, "rollback")).before == back
    assert history(line(1), line(2), back, line(3)).before == back, "what ran before, not what has the number before"


def test_a_run_that_did_not_end_leads_back_to_what_there_was_before_it() -> None:
    assert history(line(1), line(2, state="begun")).before == line(1)
    assert history(line(1), line(2, state="begun"), line(1, "rollback")).before is None, "nobody knows whether it ever served"


def test_another_fleets_entries_are_none_of_this_one() -> None:
    assert history(line(1, fleet="other"), line(2)).of("home").before is None
    assert history(line(1, fleet="other")).number_for("home", FIRST.digest) == 2


def test_one_configuration_has_one_number() -> None:
    known = history(line(1), line(2), line(3))
    assert known.number_for("home", line(2).digest) == 2
    assert known.number_for("home", "f" * 16) == 4


def test_ten_entries_stay_and_never_go_that_of_now_and_the_one_before() -> None:
    known = history(*(line(number) for number in range(1, 15)), line(1, "rollback"))
    gone = known.spare(15)
    assert len(known.entries - set(gone)) == KEPT - 1
    assert {1, 14}.isdisjoint(gone)


def test_releases_are_in_the_order_in_which_they_served_last() -> None:
    lines = (line(1), line(2), line(3, state="begun"), line(1, "rollback"), replace(line(4), release="-"))
    assert list(releases_had(lines)) == [line(1).release, line(2).release]


class Host:
    """A host's own shell, with `/var/lib/paddock` below a directory of the test's."""

    def __init__(self, place: Path) -> None:
        self.place, self.stage = place, place / "stage"
        (place / "paddock").mkdir()

    def shell(self, script: str) -> str:
        text = f"set -eu\nstage={self.stage}\n{scripts()}\n{script}".replace("/var/lib/paddock", f"{self.place}/paddock")
        done = subprocess.run(["dash", "-s"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def does(self, steps: Steps) -> None:
        self.stage.mkdir(exist_ok=True)
        for member, content in steps.members:
            (self.stage / member.name).write_bytes(content())
        self.shell("\n".join(steps.calls))

    def history(self) -> HostHistory:
        head = "LC_ALL=C; tab=$(printf '\\t'); mark='#m'; IFS='\n'; set -f"
        lines = self.shell(f"{head}\nprobe_history\nsection end").splitlines()
        at = {each: lines.index(f"#m {each}") for each in ("history", "entries", "end") if f"#m {each}" in lines}
        if "history" not in at:
            return HostHistory()
        return history_of(lines[at["history"] + 1 : at["entries"]], lines[at["entries"] + 1 : at["end"]])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_host_notes_what_it_gets_and_keeps_the_plan_where_nobody_else_reads_it(host: Host) -> None:
    assert host.history() == HostHistory()
    for number in (1, 2):
        begun, ended = Steps(), Steps()
        entry = HostEntry(line(number), f"plan {number}".encode())
        entry.begin(begun)
        host.does(begun)
        assert host.history().newest == replace(line(number), state="begun")
        entry.end(ended)
        host.does(ended)
    assert host.history().newest == line(2) and host.history().entries == {1, 2}
    assert host.history().before == line(1)
    kept = host.place / "paddock" / "history"
    assert (kept.stat().st_mode & 0o777, (kept / "1").stat().st_mode & 0o777) == (0o700, 0o700)
    assert (kept / "1" / "plan").read_bytes() == b"plan 1"


def test_entries_that_are_not_kept_go_and_the_list_stays_short(host: Host) -> None:
    for number in range(1, 80):
        steps, known = Steps(), host.history() if number % 20 == 1 else history(*map(line, range(max(1, number - 12), number)))
        HostEntry(line(number), b"plan", known.spare(number)).end(steps)
        host.does(steps)
    found = host.history()
    assert len(found.lines) == LINES_MOST
    assert {79, 78} <= found.entries and len(found.entries) <= KEPT + 2


def test_the_plan_of_an_entry_is_printed_whole_and_one_that_is_gone_is_an_empty_line(host: Host) -> None:
    steps = Steps()
    HostEntry(line(1), bytes(range(256)) * 40).end(steps)
    host.does(steps)
    first, second = host.shell(listing_sh((1, 2))).split("\n")[:2]
    assert len(first) > 10_000 and second == ""
