"""A host keeps what a switch changes, and takes it back by itself: as a shell carries it out, beside a systemd of a few files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resources.guard import TakenBack, taken_back_of
from tests.unit.guard.guarded_host import GuardedHost

SERVER = "llama-server.service"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A unit that is changed, one that is new, a directory that is new, and the link to the release that serves."""
    place = tmp_path / "files"
    place.mkdir()
    (place / "unit").write_text("old\n")
    (place / "unit").chmod(0o640)
    (place / "current").symlink_to("/opt/releases/old")
    return place


def paths(files: Path) -> list[Path]:
    return [files / "unit", files / "directory", files / "directory" / "new", files / "current"]


def switch(host: GuardedHost, files: Path) -> None:
    """Arms, and does what a run would."""
    host.unit(SERVER)
    done = host.arms(paths(files), [SERVER, "llama-server-new.service"])
    assert done.returncode == 0, done.stderr
    changed(host, files)


def changed(host: GuardedHost, files: Path) -> None:
    (files / "unit").unlink()
    (files / "unit").write_text("new\n")
    (files / "directory").mkdir()
    (files / "directory" / "new").write_text("new\n")
    (files / "current").unlink()
    (files / "current").symlink_to("/opt/releases/new")
    host.unit(SERVER, invocation="second")
    host.unit("llama-server-new.service", invocation="second")


def as_before(files: Path) -> bool:
    mode = (files / "unit").stat().st_mode & 0o777
    return (
        (files / "unit").read_text() == "old\n"
        and mode == 0o640
        and not (files / "directory").exists()
        and str((files / "current").readlink()) == "/opt/releases/old"
        and sorted(path.name for path in files.iterdir()) == ["current", "unit"]
    )


def test_what_nobody_confirms_is_put_back_and_what_ran_runs_again(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    host.passes()
    done = host.fires()
    assert done.returncode == 0, done.stderr
    assert as_before(files)
    assert [each.split()[-1] for each in host.calls("restart") if "guard" not in each] == [SERVER]
    assert host.of_unit(SERVER) == "active" and host.of_unit("llama-server-new.service", "UnitFileState") == "disabled"
    assert host.left == []
    assert host.outcome["why"] == "nobody confirmed it within 300 s" and host.outcome["unwell"] == ""
    taken = taken_back_of(host.outcome)
    assert taken == TakenBack("one", "the switch to one", int(host.outcome["at"]), "nobody confirmed it within 300 s")


def test_what_tells_of_it_is_collected_before_it_is_gone(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    told = host.does("guard_take_back one 'the canary answers nonsense' aXQgc2FpZCBCYW5hbmEK")
    assert told.returncode == 0, told.stderr
    assert "why\tthe canary answers nonsense\n" in told.stdout
    evidence = host.directory / "var" / "evidence" / "one"
    assert (evidence / "control-machine").read_text() == "it said Banana\n"
    assert (evidence / f"{SERVER}.journal").read_text().startswith("what ")
    changes = (evidence / "changed").read_text()
    assert "-old\n+new\n" in changes and "/opt/releases/old -> /opt/releases/new" in changes
    assert {path.stat().st_mode & 0o077 for path in (evidence, *evidence.iterdir())} == {0}


def test_what_is_confirmed_stays_and_leaves_nothing(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    assert "paddock-guard.timer" in " ".join(host.left)
    done = host.does("guard_confirm one")
    assert done.returncode == 0, done.stderr
    assert (files / "unit").read_text() == "new\n" and str((files / "current").readlink()) == "/opt/releases/new"
    assert host.left == [] and not (host.directory / "var" / "evidence").exists()


def test_before_the_deadline_nothing_is_taken_back(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    assert host.fires().returncode == 0
    assert (files / "unit").read_text() == "new\n" and (host.guard / "armed").exists()


def test_a_boot_in_between_takes_it_back_at_once(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    (host.directory / "run" / "guard").unlink()
    refused = host.does("guard_confirm one")
    assert refused.returncode == 1 and "the machine was started again" in refused.stderr
    assert host.fires().returncode == 0
    assert as_before(files) and host.outcome["why"] == "the machine was started again before it was confirmed"


def test_where_nothing_was_changed_nothing_is_taken_back(host: GuardedHost, files: Path) -> None:
    host.unit(SERVER)
    host.arms(paths(files), [SERVER])
    host.passes()
    assert host.fires().returncode == 0
    assert host.left == [] and not (host.directory / "var" / "taken-back").exists()
    assert [each for each in host.calls("restart") if SERVER in each] == []


def test_where_nothing_was_changed_a_failed_check_takes_nothing_back(host: GuardedHost, files: Path) -> None:
    host.unit(SERVER)
    host.arms(paths(files), [SERVER])
    told = host.does("guard_take_back one 'the gate refuses it' ''")
    assert (told.returncode, told.stdout) == (0, "") and host.left == []
    assert list((host.directory / "var" / "evidence").iterdir()) == []


def test_a_run_that_failed_before_it_kept_anything_has_nothing_taken_back(host: GuardedHost) -> None:
    told = host.does("guard_take_back one 'the gate refuses it' ''")
    assert (told.returncode, told.stdout) == (0, "") and host.left == []


def test_a_service_that_still_runs_as_it_did_is_not_restarted(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    host.unit(SERVER)  # the run died before it came to that
    host.passes()
    assert host.fires().returncode == 0
    assert as_before(files) and [each for each in host.calls("restart") if SERVER in each] == []


def test_who_does_not_come_up_again_is_named(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    (host.directory / "units" / "refuses").touch()
    host.unit(SERVER, active="failed", invocation="third")
    host.passes()
    (host.directory / "stage" / "host.sh").write_text("")
    clock = 'uptime_s() { read -r ticks <"$UNITS/ticks" || ticks=0; ticks=$((ticks + 60)); echo "$ticks" | tee "$UNITS/ticks"; }\nguard_due'
    (host.directory / "units" / "ticks").write_text("1000\n")
    text = (host.guard / "take-back").read_text().replace("/var/lib/paddock", str(host.directory / "var"))
    done = host.runs(text.replace("guard_due", clock))
    assert done.returncode == 0, done.stderr
    assert as_before(files) and host.outcome["unwell"] == SERVER


def test_another_run_is_told_what_waits_and_changes_nothing(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    other = host.arms([files / "unit"], id="two")
    assert other.returncode == 1
    assert "the switch to one waits for its confirmation, and is taken back in" in other.stderr and "paddock-at: guard" in other.stderr
    assert (host.guard / "id").read_text() == "one\n"


def test_the_same_run_goes_on_and_keeps_what_is_new_to_it_as_that_was(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    more = files / "more"
    more.write_text("old\n")
    again = host.arms([files / "unit", more], [SERVER], deadline_s=900)
    assert again.returncode == 0, again.stderr
    timer = (host.directory / "etc" / "paddock-guard.timer").read_text()
    assert "\nOnActiveSec=900\n" in timer
    assert "\nStartLimitIntervalSec=0\n" in timer, "it is started anew by each command, more often than systemd lets a unit by itself"
    more.write_text("new\n")
    host.passes()
    assert host.fires().returncode == 0
    assert more.read_text() == "old\n" and (files / "unit").read_text() == "old\n"
    assert host.outcome["why"] == "nobody confirmed it within 900 s"


def test_a_run_whose_switch_was_taken_back_meanwhile_changes_nothing_more(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    host.passes()
    host.fires()
    again = host.arms([files / "unit"])
    assert again.returncode == 1 and "was taken back meanwhile: nobody confirmed it within 300 s" in again.stderr
    late = host.does("guard_confirm one")
    assert late.returncode == 1 and "it was taken back: nobody confirmed it within 300 s" in late.stderr


def test_where_there_is_no_room_for_what_is_kept_nothing_is_armed(host: GuardedHost, files: Path) -> None:
    host.unit(SERVER)
    (host.directory / "bin" / "cp").write_text("#!/bin/sh\nset -eu\necho 'No space left on device' >&2\nexit 1\n")
    (host.directory / "bin" / "cp").chmod(0o755)
    done = host.arms(paths(files), [SERVER])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == "what is to be put back could not be kept, so nothing was changed"
    assert host.left == []


def test_a_run_that_died_while_it_armed_has_changed_nothing_and_is_in_nobodys_way(host: GuardedHost, files: Path) -> None:
    host.unit(SERVER)
    host.arms(paths(files), [SERVER])
    (host.guard / "armed").unlink()
    assert host.does("guard_rest").stdout.strip() == str(host.guard)
    assert host.fires().returncode == 0 and host.left == []
    host.arms(paths(files), [SERVER])
    (host.guard / "armed").unlink()
    assert host.arms([files / "unit"], id="two").returncode == 0
    assert (host.guard / "id").read_text() == "two\n"


def test_five_switches_are_remembered(host: GuardedHost, files: Path) -> None:
    evidence = host.directory / "var" / "evidence"
    for number in range(1, 7):
        (evidence / f"old-{number}").mkdir(parents=True)
        os.utime(evidence / f"old-{number}", (2e9, 2e9 + number))  # the clock was far ahead
    switch(host, files)
    host.passes()
    host.fires()
    assert sorted(path.name for path in evidence.iterdir()) == ["old-3", "old-4", "old-5", "old-6", "one"]


def test_the_probe_says_what_waits_and_what_was_taken_back(host: GuardedHost, files: Path) -> None:
    probe = "mark='#m'; probe_guard"
    assert host.does(probe).stdout == ""
    switch(host, files)
    said = host.does(probe).stdout.splitlines()
    assert said[:3] == ["#m guard", "id\tone", "words\tthe switch to one"] and 290 <= int(said[3].removeprefix("left\t")) <= 300
    host.passes()
    host.fires()
    said = host.does(probe).stdout.splitlines()
    assert said[:4] == ["#m guard", "#m taken_back", "id\tone", "words\tthe switch to one"]
    host.does("guard_seen")
    assert host.does(probe).stdout == ""


def test_teardown_leaves_nothing_of_it(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    host.does("guard_take_back one why ''")
    switch_again = host.arms([files / "unit"], id="two")
    assert switch_again.returncode == 0, switch_again.stderr
    assert host.does("guard_dropped").returncode == 0
    assert list((host.directory / "var").iterdir()) == [] and host.left == []


def test_more_than_files_is_taken_back_around_them(host: GuardedHost, files: Path) -> None:
    note, before, after = (
        f"ls {files}",
        f"cat {files}/unit >>$1/../../../seen",
        f"cat {files}/unit >>$1/../../../seen; cat $1/noted >>$1/../../../seen",
    )
    host.unit(SERVER)
    assert host.arms(paths(files), [SERVER]).returncode == 0
    done = host.does(f"guard_undo {SERVER} '{note}' '{before}' '{after}'; guard_undo {SERVER} 'echo later' false false")
    assert done.returncode == 0, done.stderr
    changed(host, files)
    host.passes()
    done = host.fires()
    assert done.returncode == 0, done.stderr
    assert as_before(files) and (host.directory / "var" / "seen").read_text() == "new\nold\ncurrent\nunit\n"
    assert host.left == ["var/seen"]


def test_where_more_than_files_cannot_be_taken_back_it_is_tried_again(host: GuardedHost, files: Path) -> None:
    switch(host, files)
    host.does(f"guard_undo {SERVER} true true '[ -e {host.directory}/var/may ]'")
    host.passes()
    failed = host.fires()
    assert failed.returncode == 1 and f"could not be put back: {SERVER}" in failed.stderr
    (host.directory / "var" / "may").touch()
    assert host.fires().returncode == 0 and as_before(files) and host.left == ["var/may"]


def test_a_package_of_another_version_is_put_back_from_the_file_that_was_kept(host: GuardedHost, files: Path) -> None:
    """dpkg and apt are a file with a version; a package's file is its version."""
    installed = host.directory / "var" / "installed"
    programs = {
        "dpkg-query": f'case $3 in *Status*) echo "installed $(cat {installed})" ;; *) cat {installed} ;; esac',
        "dpkg-deb": '[ ! -e "$2" ] || cat "$2"',
        "apt-get": "for each; do :; done\n"
        f'case $1 in download) echo "${{each#*=}}" >caddy_1_amd64.deb ;; install) cat "$each" >{installed} ;; esac',
        "pgrep": "exit 1",
    }
    for name, text in programs.items():
        (host.directory / "bin" / name).write_text(f"#!/bin/sh\nset -eu\n{text}\n")
        (host.directory / "bin" / name).chmod(0o755)
    installed.write_text("2.6.2-5\n")
    host.unit(SERVER)
    host.arms([files / "unit"], [SERVER])
    kept = host.does("guard_package caddy; guard_package caddy")
    assert kept.returncode == 0, kept.stderr
    installed.write_text("2.11.4-1\n")
    host.passes()
    done = host.fires()
    assert done.returncode == 0, done.stderr
    assert installed.read_text() == "2.6.2-5\n" and host.left == ["run/apt.conf", "var/installed"] and host.outcome["unwell"] == ""
