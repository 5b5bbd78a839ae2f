"""The standard library as gevent leaves it."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import os
import tempfile
from pathlib import Path

import gevent
import pytest

from control.state.fleet import write_atomically

assert control.ssh.cooperative


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_directories_are_closed_at_once_and_not_when_gevent_has_a_turn(tmp_path: Path) -> None:
    gevent.get_hub()
    before = open_files()
    write_atomically(tmp_path / "note", "1")
    with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
        (Path(scratch) / "inner").mkdir()
    assert open_files() == before


def test_what_gevent_may_wait_for_is_closed_in_its_turn() -> None:
    gevent.get_hub()
    reads, writes = os.pipe()
    os.close(writes)
    os.fstat(writes)
    gevent.sleep(0.01)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writes)
    os.close(reads)
