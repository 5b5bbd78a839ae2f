"""One operator at a time changes a fleet; who is let in may be changed beside that, by one at a time, for a moment.

The lock here holds on this machine. On hosts the run of its holder has leases (resources/lease.py), which hold against other machines:

    lock    {"file": "desk:2049:131", "who": "anna@desk", "pid": 4711, "verb": "up", "since": "2026-11-30T19:04:26+00:00",
             "run": "3f2a90c1d4e5b687", "ended": ["b1946ac92492d234"]}

Who holds the lock knows that the runs which held this very file before have ended, however that was.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
import secrets
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from control.state.fleet import FleetState
from control.state.unfinished import drop_unfinished
from inventory.bounds import from_json
from inventory.errors import PaddockError
from resources.lease import ID, clock_time

ENDED_MOST = 16
"""So many of the runs before are remembered: a lease lasts for minutes."""


@dataclass(frozen=True)
class Holder:
    """Who holds the fleet's lock: `run` is a random id, `ended` are those of the runs from here that held it before, the last one last.
    One that `steals` takes leases of hosts that others have."""

    run: str
    who: str
    verb: str
    ended: tuple[str, ...] = ()
    steals: bool = False


ROOM = 64 << 10
"""Bytes that a run needs at least, for its record say."""


@contextmanager
def operator_lock(state: FleetState, verb: str, *, steals: bool = False) -> Iterator[Holder]:
    """Hold the fleet's lock. Raises PaddockError at once, with who holds it, where somebody does: a lock of a living run is not stolen.

    The kernel lets go of it when its holder ends, killed or not, so no lock is ever left behind.
    """
    path = state.directory() / "lock"
    handle = _opened(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stolen = " (--steal-lock takes the leases of runs on other machines, and ends no run here)" if steals else ""
            raise PaddockError(f"fleet {state.fleet}: {_holder(os.pread(handle, 4096, 0))}: wait for it, or stop it{stolen}") from None
        file = _identity(handle)
        holder = Holder(secrets.token_hex(8), operator(), verb, _ended(os.pread(handle, 4096, 0), file), steals)
        since = datetime.now().astimezone().isoformat()
        note = {"file": file, "who": holder.who, "pid": os.getpid(), "verb": verb, "since": since, "run": holder.run, "ended": holder.ended}
        try:
            _write(handle, json.dumps(note))
            with tempfile.TemporaryFile(dir=path.parent) as room:
                room.write(b"\0" * ROOM)
        except OSError as error:  # better now than in the middle: what follows has more to keep here
            raise PaddockError(f"{path}: cannot be written: {error.strerror}") from None
        drop_unfinished(state)
        try:
            yield holder
        finally:
            with suppress(OSError):  # of a full disk: then a lease that could not be given back is waited for
                _write(handle, json.dumps({"file": file, "ended": (*holder.ended, holder.run)}))
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for processes that were forked meanwhile and hold a copy
    finally:
        os.close(handle)


@contextmanager
def admission_lock(state: FleetState) -> Iterator[None]:
    """Hold this while what is kept of certificates and secrets is read, changed and written. Waits: others have it for moments.

    Who holds it may ask for it again. Raises PaddockError where it cannot be had.
    """
    path = state.directory() / "admission.lock"
    if _HELD[path]:
        yield
        return
    handle = _opened(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _HELD[path] += 1
        try:
            yield
        finally:
            _HELD[path] -= 1
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)


_HELD: Counter[Path] = Counter()
"""The locks of this process, which has one thread that changes state."""


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PaddockError(f"{path}: cannot be opened: {error.strerror}") from None


def _holder(note: bytes) -> str:
    try:
        held = from_json(note)
        since = clock_time(datetime.fromisoformat(held["since"]).astimezone())
        return f"locked by {held['who']} since {since} ({held['verb']}, pid {held['pid']})"
    except (ValueError, KeyError, TypeError):
        return "locked by a run that has just begun"


def _ended(note: bytes, file: str) -> tuple[str, ...]:
    """The runs that held this file before. A copy of it, with a state that was copied, says nothing: its run may be at work."""
    try:
        said = from_json(note)
        if said["file"] != file:
            return ()
        runs = (*said["ended"], *([said["run"]] if "run" in said else []))
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(each for each in runs if isinstance(each, str) and re.fullmatch(ID, each))[-ENDED_MOST:]


def _identity(handle: int) -> str:
    """What tells the file from its copies, here and on other machines."""
    found = os.fstat(handle)
    return f"{socket.gethostname()}:{found.st_dev}:{found.st_ino}"


def operator() -> str:
    """Who is at work, for others to read: `ada@desk`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a user id without a name, as in containers
        return f"{os.geteuid()}@{socket.gethostname()}"


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
