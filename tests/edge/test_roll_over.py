"""A fleet changes from one CA to another, and nobody who may call is shut out on the way: with each Caddy, in each version of TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_fleet import HOSTS, VERSIONS, Door

from tests.lab_fleet import LabFleet
from tests.share import turn

pytestmark = turn(2, of=5)

WHO = "traveller"
"""A client of its own: others' certificates are another test's business."""


@pytest.fixture(scope="module")
def doors(edge: LabFleet) -> Iterator[list[Door]]:
    certs(edge, "issue", WHO, "--yes")
    yield [Door.of(edge, host) for host in HOSTS]
    certs(edge, "revoke", WHO)


def certs(edge: LabFleet, *arguments: str) -> str:
    done = edge.paddock("certs", *arguments, "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def taken(edge: LabFleet, name: str) -> tuple[Path, Path]:
    """The client's certificate and its key, as it takes them away now."""
    away = edge.directory / name
    certs(edge, "export", WHO, "--to", str(away))
    return away / "cert.pem", away / "key.pem"


def statuses(doors: list[Door], identity: tuple[Path, Path]) -> set[int]:
    return {door.get("/health", door.context(version, identity))[0] for door in doors for version in VERSIONS}


def test_a_renewal_leaves_the_certificate_before_good_until_it_is_thrown_out(edge: LabFleet, doors: list[Door]) -> None:
    before = taken(edge, "before-renewal")
    certs(edge, "renew", WHO)
    after = taken(edge, "after-renewal")
    assert statuses(doors, before) == statuses(doors, after) == {200}
    certs(edge, "revoke", WHO, "--earlier")
    assert all(door.is_refused(door.context(version, before)) for door in doors for version in VERSIONS)
    assert statuses(doors, after) == {200}


def test_from_one_ca_to_another(edge: LabFleet, doors: list[Door]) -> None:
    before = taken(edge, "before-roll-over")
    certs(edge, "roll-over", "begin")
    edge.up("--no-verify")
    assert statuses(doors, before) == {200}

    certs(edge, "roll-over", "switch")
    assert statuses(doors, before) == {200}
    edge.up("--no-verify")
    after = taken(edge, "after-roll-over")
    assert statuses(doors, before) == statuses(doors, after) == {200}

    assert edge.paddock("certs", "roll-over", "finish", "--lab").returncode == 2  # nobody is there to say that it has arrived
    certs(edge, "roll-over", "finish", "--yes")
    edge.up()
    assert all(door.is_refused(door.context(version, before)) for door in doors for version in VERSIONS)
    assert statuses(doors, after) == {200}
