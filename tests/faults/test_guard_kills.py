"""kill -9 of what takes a switch back, before its commands one after another: the next start comes to the same end. Needs no host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.share import spread, turn
from tests.unit.guard.guarded_host import GuardedHost

pytestmark = turn(1, of=3)

KILLED = """
set -T
trap 'printf . >>"$COUNT"; read -r dots <"$COUNT" || :; [ ${#dots} -lt "$AT" ] || kill -9 -- -$$' DEBUG
. "$SCRIPT"
"""
"""Ends the script, with all that it has started, before its command number AT."""

SERVERS = ("llama-server.service", "llama-server-new.service")


def switched(directory: Path) -> tuple[GuardedHost, Path]:
    """A host whose switch is due: a file and a link that were changed, a file that is new, a service that was restarted and one that is new."""
    directory.mkdir()
    host, files = GuardedHost(directory), directory / "files"
    files.mkdir()
    (files / "unit").write_text("old\n")
    (files / "current").symlink_to("old")
    host.unit(SERVERS[0])
    armed = host.arms([files / name for name in ("unit", "new", "current")], SERVERS)
    assert armed.returncode == 0, armed.stderr
    (files / "unit").write_text("new\n")
    (files / "new").write_text("new\n")
    (files / "current").unlink()
    (files / "current").symlink_to("new")
    for name in SERVERS:
        host.unit(name, invocation="second")
    host.passes()
    return host, files


def as_before(host: GuardedHost, files: Path) -> bool:
    return (
        {path.name for path in files.iterdir()} == {"unit", "current"}
        and (files / "unit").read_text() == "old\n"
        and str((files / "current").readlink()) == "old"
        and host.of_unit(SERVERS[0]) == "active"
        and host.of_unit(SERVERS[0], "InvocationID") not in ("first", "second")
        and host.of_unit(SERVERS[1], "UnitFileState") == "disabled"
        and host.outcome["why"] == "nobody confirmed it within 300 s"
        and host.left == []
    )


def killed(host: GuardedHost, at: int) -> bool:
    """Whether it was still at work when it was to be killed."""
    count, script = host.directory / "count", host.directory / "script"
    count.write_text("")
    script.write_text((host.guard / "take-back").read_text().replace("/var/lib/paddock", str(host.directory / "var")))
    own = {"PATH": f"{host.directory}/bin:{os.environ['PATH']}", "UNITS": str(host.directory / "units")}
    environment = {**os.environ, **own, "AT": str(at), "COUNT": str(count), "SCRIPT": str(script)}
    done = subprocess.run(["bash", "-c", KILLED], env=environment, start_new_session=True, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_killed_before_one_of_its_commands_it_comes_to_the_same_end(tmp_path: Path) -> None:
    counted, files = switched(tmp_path / "counted")
    assert not killed(counted, sys.maxsize) and as_before(counted, files)
    commands = len((counted.directory / "count").read_text())
    assert commands > 100
    for at in spread("commands of the guard", range(1, commands + 1), 16):
        host, files = switched(tmp_path / str(at))
        if killed(host, at) and host.left:
            swept = host.fires() if (host.guard / "take-back").exists() else host.does("guard_gone")  # what the next run does
            assert swept.returncode == 0, f"before command {at}: {swept.stderr}"
        assert as_before(host, files), f"before command {at}: {host.left}"
