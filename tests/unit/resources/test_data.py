"""What services keep is noted as data: it outlives its place in the inventory, and leaves whole where data is to leave."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from resources import Directory, scripts
from resources.base import Origin
from resources.drift import drift
from resources.probe import Actual

OWN = Directory("/var/lib/paddock-gateway", data=True)
POSTGRES = Directory("/var/lib/postgresql", data=True)


def manifest(actual: Actual, *planned: Directory) -> dict[str, Origin]:
    return dict(drift({"gateway": planned}, actual).manifest)


def test_it_is_noted_before_it_is_there_and_nothing_is_done_about_it() -> None:
    found = drift({"gateway": (OWN,)}, Actual())
    assert found.changes == () and found.manifest == {OWN.id: "data"}
    there = {OWN.id: {"type": "directory", "owner": "paddock-gateway", "group": "paddock-gateway", "mode": "700"}}
    assert not drift({"gateway": (OWN,)}, Actual(there, manifest={OWN.id: "data"}))


def test_it_stays_when_nothing_names_it_and_leaves_where_data_does() -> None:
    actual = Actual(manifest={OWN.id: "data"})
    assert drift({}, actual).left == (OWN.id,)
    leaving = drift({}, actual, data=True)
    assert leaving.gone == [OWN.id] and leaving.manifest == {}


def test_what_was_there_before_paddock_is_kept_but_for_a_place_of_paddocks_own() -> None:
    there = {each.id: {"type": "directory"} for each in (OWN, POSTGRES)}
    assert manifest(Actual(there), OWN, POSTGRES) == {OWN.id: "data", POSTGRES.id: "kept"}
    assert drift({}, Actual(there, manifest={POSTGRES.id: "kept"}), data=True).gone == []


def gone(origin: str, path: Path, stub: str = "dpkg() { return 1; }") -> None:
    script = f"set -eu\nstage=\ntab=\n{scripts()}\n{stub}\ngone_directory {origin} {path}\n"
    subprocess.run(["sh", "-c", script], capture_output=True, check=True)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "kept" / "inside").mkdir(parents=True)
    (tmp_path / "kept" / "inside" / "gateway.db").write_text("rows")
    return tmp_path / "kept"


def test_a_directory_of_data_goes_with_all_that_is_in_it(kept: Path) -> None:
    gone("put", kept)
    assert kept.exists()
    gone("data", kept)
    assert not kept.exists()
    gone("data", kept)


def test_what_a_package_has_made_is_left_to_the_package(kept: Path) -> None:
    gone("data", kept, "dpkg() { :; }")
    assert kept.exists()


@pytest.mark.parametrize(("mounted", "stays"), [("kept/inside", True), ("kept", True), ("kept-else", False)])
def test_a_directory_in_which_something_is_mounted_stays(kept: Path, mounted: str, stays: bool) -> None:
    mounts = f'awk() {{ echo "25 30 0:23 / {kept.parent}/{mounted} rw" | command awk "$1" "$2" "$3"; }}'
    gone("data", kept, f"dpkg() {{ return 1; }}\n{mounts}")
    assert kept.exists() == stays
