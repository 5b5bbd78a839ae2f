"""One operator at a time changes a fleet; who is let in may be changed beside that, by one at a time, for a moment."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from control.state.fleet import FleetState
from inventory.bounds import from_json
from inventory.errors import PaddockError


@contextmanager
def operator_lock(state: FleetState, verb: str) -> Iterator[None]:
    """Hold the fleet's lock. Raises PaddockError at once, with who holds it, where somebody does.

    The kernel lets go of it when its holder ends, killed or not, so no lock is ever left behind.
    """
    path = state.directory() / "lock"
    handle = _opened(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PaddockError(f"fleet {state.fleet}: {_holder(os.pread(handle, 4096, 0))}: wait for it, or stop it") from None
        note = {"who": operator(), "pid": os.getpid(), "verb": verb, "since": datetime.now().astimezone().isoformat()}
        try:
            _write(handle, json.dumps(note))
        except OSError as error:  # better now than in the middle: what follows has more to keep here
            raise PaddockError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            _write(handle, "")
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
        since = datetime.fromisoformat(held["since"]).astimezone()
        day = "" if since.date() == datetime.now().astimezone().date() else f"{since:%Y-%m-%d} "
        return f"locked by {held['who']} since {day}{since:%H:%M} ({held['verb']}, pid {held['pid']})"
    except (ValueError, KeyError, TypeError):
        return "locked by a run that has just begun"


def operator() -> str:
    """Who is at work, for others to read: `ada@desk`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a user id without a name, as in containers
        return f"{os.geteuid()}@{socket.gethostname()}"


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
