"""What the probe makes of a service whose inputs somebody has changed: whether the process has read them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from facts.state import State
from resources import Directory, File, Line, ModelFile, Release, Resource, Service
from resources.probe import Actual

START = datetime(2026, 3, 1, 12, 0, 0, 250000, UTC)
RELOAD = START + timedelta(hours=1)
BEFORE, BETWEEN, AFTER = START - timedelta(minutes=5), START + timedelta(minutes=5), RELOAD + timedelta(minutes=5)

FILE = File("/etc/x/x.conf", "declared\n")
MODEL = ModelFile("/srv/x.gguf", "a" * 64, 7, "tiny")
RELEASE = Release(
    "/opt/x/releases/1", current="/opt/x/current", version="1", fingerprint="f", source="", options=(), targets=(), packages=()
)
INPUTS: dict[str, Resource] = {
    "a file": FILE,
    "a line": Line("/etc/x/x.conf", "import x"),
    "a model": MODEL,
    "a release": RELEASE,
    "a directory": Directory("/etc/x", exclusive=True),
}


def seen(
    service: Service,
    input: Resource,
    changed: datetime,
    *,
    there: bool = True,
    reloaded: bool = True,
    sha256: str = "b" * 64,
    clock: str = "%H:%M:%S.%f",
    noted: str = "",
) -> Actual:
    """What the probe says where the input was changed then, and has this digest."""
    ctime = changed.timestamp()
    path = input.current if isinstance(input, Release) else getattr(input, "path", "")
    kind = "d" if isinstance(input, Directory) else "l" if isinstance(input, Release) else "f"
    at = (path, kind) if there else (path.rpartition("/")[0], "d")
    time = lambda at: at.strftime(f"%a %Y-%m-%d {clock} UTC")  # noqa: E731
    fact = State()
    fact.asked = (input, service)
    return fact.process(
        [
            "#m",
            "#m stat",
            f"{at[0]}\t{at[1]}\troot\troot\t755\t7\t{ctime:.10f}\t/opt/x/releases/0",
            *(["#m sha256", f"{sha256}  {path}"] if kind == "f" and there else []),
            *(["#m inside", "/etc/x\tforeign"] if kind == "d" and there else []),
            "#m service",
            f"Id={service.name}",
            "ActiveState=active",
            "UnitFileState=enabled",
            "NeedDaemonReload=no",
            "InvocationID=i1",
            "MainPID=1",
            f"ActiveEnterTimestamp={time(START)}",
            f"StateChangeTimestamp={time(RELOAD if reloaded else START)}",
            "#m stamp",
            f"{service.note}.started\ti1:{noted or service.started}",
            f"{service.note}.loaded\ti1:{service.loaded}",
            "#m end",
        ]
    )


def unread(actual: Actual, service: Service) -> set[str]:
    return {"started", "loaded"} & actual.differing(service).keys()


@pytest.mark.parametrize("user", ["", "ai"])
@pytest.mark.parametrize("input", INPUTS)
def test_what_was_changed_before_the_start_was_read(input: str, user: str) -> None:
    service = Service("x.service", restarts=(INPUTS[input],), user=user)
    assert unread(seen(service, INPUTS[input], BEFORE, reloaded=False), service) == {"started"}
    assert unread(seen(service, INPUTS[input], AFTER, reloaded=False), service) == set()


def test_a_reload_reads_what_only_a_reload_reads() -> None:
    other = File("/etc/x/other.conf", "")
    service = Service("x.service", restarts=(other,), reloads=(FILE,))
    assert unread(seen(service, FILE, BETWEEN), service) == {"loaded"}
    assert unread(seen(service, FILE, AFTER), service) == set()
    assert unread(seen(service, other, BETWEEN), service) == set(), "a start reads it, and that was before"


def test_what_nobody_but_us_would_reload_may_have_been_reloaded_by_hand() -> None:
    service = Service("x.service", restarts=(FILE,))
    assert unread(seen(service, FILE, BETWEEN), service) == {"started"}


@pytest.mark.parametrize("input", [FILE, MODEL], ids=["file", "model"])
def test_of_what_is_gone_its_directory_tells(input: Resource) -> None:
    service = Service("x.service", restarts=(input,))
    assert unread(seen(service, input, BEFORE, there=False, reloaded=False), service) == {"started"}
    assert unread(seen(service, input, AFTER, there=False, reloaded=False), service) == set()


def test_another_owner_is_nothing_that_was_read() -> None:
    theirs = replace(FILE, owner="daemon")
    service = Service("x.service", restarts=(theirs,))
    found = seen(service, theirs, BEFORE, reloaded=False, sha256=FILE.sha256)
    assert {"owner", "mode"} == found.differing(theirs).keys()
    assert unread(found, service) == set()


def test_of_what_is_declared_anew_the_note_stays() -> None:
    """A run that is refused later on, by the gate for instance, is to leave it."""
    service = Service("x.service", restarts=(FILE,))
    found = seen(service, FILE, BEFORE, reloaded=False, noted="declared before")
    assert found.differing(service) == {"started": ("declared before", service.started)}


def test_an_older_systemd_prints_whole_seconds() -> None:
    service = Service("x.service", restarts=(FILE,))
    assert unread(seen(service, FILE, BEFORE, reloaded=False, clock="%H:%M:%S"), service) == {"started"}
    assert unread(seen(service, FILE, AFTER, reloaded=False, clock="%H:%M:%S"), service) == set()
