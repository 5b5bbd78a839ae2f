"""Whose a host is, as its manifest has it and the probe reads it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resources.drift import manifest_text
from resources.owner import UNREADABLE, Owner, owner_of
from resources.probe import Actual, actual_of, probe_script

OURS = Owner("home-lab", "3f2a90c1d4e5b687", datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC))
LINE = "fleet home-lab 3f2a90c1d4e5b687 2026-03-01T12:00:00.000007Z"


def probed(manifest: bytes | None, directory: Path) -> Actual:
    """What the probe finds where this is the host's manifest."""
    path = directory / "manifest"
    if manifest is not None:
        path.write_bytes(manifest)
    script = probe_script((), "echo this").replace("/var/lib/paddock/manifest", str(path))
    done = subprocess.run(["sh", "-s"], input=script.encode(), stdout=subprocess.PIPE, check=True)
    return actual_of(done.stdout.decode(errors="replace").splitlines(), [])


def test_what_a_manifest_says_comes_back(tmp_path: Path) -> None:
    text = manifest_text({"file:/etc/motd": "kept", "package:caddy": "put"}, OURS)
    assert text.splitlines()[0] == LINE
    found = probed(text.encode(), tmp_path)
    assert (found.owner, found.manifest) == (OURS, {"file:/etc/motd": "kept", "package:caddy": "put"})


@pytest.mark.parametrize("manifest", [None, b"", b"put file:/etc/motd\n", b"put file:/etc/fleet home\n"])
def test_a_host_whose_manifest_names_no_owner_is_nobodys(manifest: bytes | None, tmp_path: Path) -> None:
    assert probed(manifest, tmp_path).owner is None


@pytest.mark.parametrize(
    "line",
    [
        "fleet",
        "fleet ",
        "fleet home",
        LINE[:-1],
        f"{LINE} more",
        LINE.replace("3f2a", "3F2A"),
        LINE.replace("-03-", "-13-"),
        LINE.replace("home-lab", "../up"),
        LINE.replace("home-lab", "a" * 64),
        LINE.replace("home-lab", "ho\x1b[2Jme"),
        LINE.replace("2026", "٢٠٢٦"),
        LINE.replace("home", "\udcff"),
        f"{LINE}\n{LINE}",
        f"{LINE}\n{LINE.replace('3f2a', '4f2a')}",
        "fleet " + "x" * 100_000,
    ],
)
def test_an_owner_that_cannot_be_read_is_neither_ours_nor_nobody(line: str, tmp_path: Path) -> None:
    found = probed(f"{line}\nput file:/etc/motd\n".encode(errors="surrogateescape"), tmp_path)
    assert (found.owner, found.manifest) == (UNREADABLE, {"file:/etc/motd": "put"})


def test_no_answer_of_a_probe_is_an_owner_of_several_lines() -> None:
    assert owner_of([LINE]) == OURS
    assert owner_of([LINE, LINE]) == UNREADABLE
    assert owner_of([]) is None
