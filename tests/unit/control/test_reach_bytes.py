"""Bytes of a command on a host, and to one: all of them or an error in the host's words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.ssh.reach import GONE, Reach  # isort: skip - first of all, for gevent

from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from tests.unit.control.loopback import Served, served

MIB = 1 << 20
BYTES = bytes(range(256)) * (4 * MIB // 256) + b"and no line break"


@pytest.fixture
def host() -> Iterator[Served]:
    with served() as this:
        yield this


@pytest.fixture
def reach(host: Served, state: FleetState, home: Path) -> Iterator[Reach]:
    (home / ".ssh").mkdir()
    said = {"name": "pea", "address": host.address, "port": host.port, "host_key": host.key}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"pea": said}})
    reach = Reach(fleet, state, fleet.hosts.values())
    with reach.connected():
        assert reach.failures == {}
        yield reach


def test_what_a_command_prints_comes_as_it_is(reach: Reach, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BYTES)
    assert b"".join(reach.blocks("pea", f"tail -c +1 {tmp_path}/file", "reading")) == BYTES


def test_a_command_that_fails_in_the_end_has_not_given_all(reach: Reach, tmp_path: Path) -> None:
    got = []
    with pytest.raises(PaddockError, match=r"^pea: reading: the disk is broken$"):
        got += [*reach.blocks("pea", "echo begun; echo the disk is broken >&2; exit 1", "reading")]
    assert got == []


def test_what_is_given_arrives_whole(reach: Reach, tmp_path: Path) -> None:
    with reach.feed("pea", f"cat >{tmp_path}/file; : cat", "writing") as feed:
        for at in range(0, len(BYTES), 100_000):
            feed(BYTES[at : at + 100_000])
    assert hashlib.sha256((tmp_path / "file").read_bytes()).digest() == hashlib.sha256(BYTES).digest()


def test_a_command_that_takes_no_more_says_why(reach: Reach) -> None:
    with (
        pytest.raises(PaddockError, match=r"^pea: writing: no space left on device$"),
        reach.feed("pea", "head -c 5 >/dev/null; echo no space left on device >&2; exit 1; : cat", "writing") as feed,
    ):
        feed(BYTES)


def test_a_host_that_dies_is_said_to_be_gone(reach: Reach, host: Served) -> None:
    with pytest.raises(PaddockError, match=f"^pea: {GONE.replace('?', '.')}$"):
        for _ in reach.blocks("pea", "head -c 40000 /dev/zero; exec sleep 30", "reading"):
            host.die()
    with pytest.raises(PaddockError, match=r"^pea: "), reach.feed("pea", "sleep 1; : cat", "writing") as feed:
        host.die()
        for _ in range(100):
            feed(bytes(MIB))
