"""Which releases a host keeps, and that those which leave are never one that serves or runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from resources import Release, Releases, scripts
from resources.probe import ProbeAnswer
from resources.steps import Steps

PLACE = "/opt/paddock/llama.cpp/releases"
MIB = 1024


def release(name: str) -> Release:
    return Release(f"{PLACE}/{name}", "/opt/paddock/llama.cpp/current", "1", "f", "", options=(), targets=(), packages=())


def spare(
    wanted: str, serving: str, had: str, lying: str, *, most: int = 3, disk_mib: int = 0, used: str = "", size_mib: int = 100
) -> list[str]:
    """Names are letters; `had` what served, the last one last; `lying` what lies there, what was made last coming last."""
    lines = [f"{at} done 2026-11-{at:02}T14:45:11.123456Z up home {name} ada@desk {at:016x}" for at, name in enumerate(had, 1)]
    rows = [f"{PLACE}/{name}\t{size_mib * MIB}\t{1_000_000 + at}\t{'used' if name in used else 'idle'}" for at, name in enumerate(lying)]
    stat = [f"{PLACE}\td\troot\troot\t755\t4096\t1.0\t"]
    stat += [f"/opt/paddock/llama.cpp/current\tl\troot\troot\t777\t5\t1.0\t{PLACE}/{serving}"] if serving else []
    kept = Releases(PLACE, most, disk_mib)
    said = ["#m", "#m history", *lines, "#m lying", *rows, "#m stat", *stat, "#m end"]
    found = dict(kept.found(ProbeAnswer(said, [release(wanted), kept])))
    assert found.pop("type") == "directory"
    return found["spare"].split()


def test_three_are_kept_and_who_served_longest_ago_goes_first() -> None:
    assert spare("d", "d", "abcd", "abcd") == ["a"]
    assert spare("d", "d", "bacd", "abcd") == ["b"]
    assert spare("d", "d", "abcd", "bcd") == []


def test_the_plan_of_a_switch_says_what_is_so_after_it() -> None:
    """What is to leave is decided before the switch, and the look after the run is to find no more and no less."""
    before = spare("e", "d", "abcd", "abcd")
    assert before == ["b", "a"]
    assert spare("e", "e", "abcde", "cde") == []
    back = spare("c", "d", "abcd", "bcd")
    assert back == [] == spare("c", "c", "abcdc", "bcd")


@pytest.mark.parametrize("most", [2, 3, 9])
@pytest.mark.parametrize("disk_mib", [0, 1, 250])
def test_what_serves_and_the_one_before_stay_whatever_is_said(most: int, disk_mib: int) -> None:
    for wanted, serving, had in (("d", "d", "abcd"), ("d", "c", "abc"), ("a", "d", "abcd"), ("a", "a", "abcda")):
        gone = spare(wanted, serving, had, "abcd", most=most, disk_mib=disk_mib)
        assert wanted not in gone and serving not in gone
        if wanted == serving:
            assert next(each for each in reversed(had) if each != wanted) not in gone


def test_the_others_have_no_more_than_their_disk() -> None:
    assert spare("d", "d", "abcd", "abcd", most=9, disk_mib=150) == ["a"]
    assert spare("d", "d", "abcd", "abcd", most=9, disk_mib=99) == ["b", "a"]
    assert spare("d", "d", "abcd", "abcd", most=9, disk_mib=200) == []


def test_where_nobody_knows_who_served_before_the_disk_takes_none_away() -> None:
    assert spare("d", "d", "", "abcd", most=9, disk_mib=1) == []
    assert spare("d", "d", "", "abcd") == ["a"], "what was made last stays"


def test_what_a_process_runs_stays() -> None:
    assert spare("d", "d", "abcd", "abcd", used="a") == ["b"]


def test_a_host_that_talks_nonsense_is_no_trouble() -> None:
    kept = Releases(PLACE, 3)
    said = ["#m", "#m lying", f"{PLACE}/a\t{'9' * 40}\tx\tused", "#m stat", f"{PLACE}\td\troot\troot\t755\t1\t1.0\t", "#m end"]
    assert kept.found(ProbeAnswer(said, [kept]))["spare"] == ""


def shell(script: str) -> str:
    done = subprocess.run(["dash", "-s"], input=f"{scripts()}\n{script}", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "releases"
    for name in ("one", "two", "three"):
        (place / name / "bin").mkdir(parents=True)
        (place / name / ".paddock-release").write_text("f\n")
    (place / "half.paddock").mkdir()
    (tmp_path / "current").symlink_to(place / "one")
    return place


def test_what_serves_or_runs_by_now_is_not_taken_away(place: Path) -> None:
    shutil.copy("/bin/sleep", place / "two" / "bin" / "sleep")
    running = subprocess.Popen([place / "two" / "bin" / "sleep", "60"])
    try:
        head = "LC_ALL=C; tab=$(printf '\\t'); mark='#m'; IFS='\n'; set -f; deep() { false; }; releases() { :; }"
        said = shell(f"{head}\nrelease_places() {{ echo {place}; }}\nprobe_release")
        found = {line.split("\t")[0].rpartition("/")[2]: line.split("\t")[3] for line in said.splitlines() if "\t" in line}
        assert found == {"one": "idle", "two": "used", "three": "idle"}
        steps = Steps()
        steps.add("releases_leave", place, "one", "two", "three")
        shell("\n".join(steps.calls))
        assert sorted(each.name for each in place.iterdir()) == ["half.paddock", "one", "two"]
    finally:
        running.kill()
        running.wait()
