"""`paddock backup` and `paddock restore`, as far as they go without a host."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from cli import main
from tests.unit.cli.test_certs_verbs import INVENTORY

Paddock = Callable[..., tuple[int, str, str]]


@pytest.fixture
def paddock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paddock:
    """`paddock("backup")` for its code, output and errors, in a directory with an inventory and a state; nobody is at the terminal."""
    (tmp_path / "home.yml").write_text(INVENTORY)
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    progress = logging.getLogger("paddock.progress")  # the command speaks through it, to an output that is gone after the test
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(progress, name, getattr(progress, name))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([*arguments, "-i", "home.yml"])
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    assert call("certs", "renew", "--no-push")[0] == 0
    return call


def newest(tmp_path: Path) -> str:
    return str(max((tmp_path / ".paddock" / "home.backups").glob("*.tar.age")))


def test_a_backup_is_made_listed_checked_and_comes_back_where_nothing_is(paddock: Paddock, tmp_path: Path) -> None:
    code, out, err = paddock("backup", "--json")
    said = json.loads(out)
    assert code == 0 and said["file"] == newest(tmp_path) and said["fleet"] == "home" and said["databases"] == {}, err
    assert newest(tmp_path) in paddock("backup", "list")[1]
    assert [each["file"] for each in json.loads(paddock("backup", "list", "--json")[1])] == [newest(tmp_path)]
    code, out, _ = paddock("backup", "check", newest(tmp_path))
    assert code == 0 and "fleet home" in out and "each file is as the manifest says" in out
    assert json.loads(paddock("backup", "check", newest(tmp_path), "--json")[1])["files"] == said["files"]
    listed = paddock("certs", "list", "--json")[1]
    shutil.copy(newest(tmp_path), tmp_path / "kept")
    shutil.rmtree(tmp_path / ".paddock")
    (tmp_path / "home.yml").unlink()
    code, out, err = paddock("restore", "kept")
    assert code == 2 and "there is no terminal to ask" in err and not (tmp_path / "home.yml").exists()
    code, out, err = paddock("restore", "kept", "--yes")
    assert code == 0 and "is as it was on" in out, err
    assert (tmp_path / "home.yml").read_text() == INVENTORY
    assert paddock("certs", "list", "--json")[1] == listed


def test_older_ones_go_where_nobody_chose_the_place(paddock: Paddock, tmp_path: Path) -> None:
    directory = tmp_path / ".paddock" / "home.backups"
    assert paddock("backup")[0] == 0
    for day in range(1, 5):
        shutil.copy(newest(tmp_path), directory / f"2025010{day}T000000Z.tar.age")
    assert "older deleted" in paddock("backup", "--keep", "3")[1] and len(list(directory.glob("*.age"))) == 3
    assert paddock("backup", "--to", str(tmp_path / "mine"), "--keep", "1")[0] == 0
    assert (tmp_path / "mine").exists() and len(list(directory.glob("*.age"))) == 3


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`restore --identity` sets a variable for the rest of its process, which here goes on."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("backup", "--keep", "0"), "'0' is no number from 1 up", 2),
        (("backup", "--to", "nowhere/file"), "nowhere: there is no such directory", 1),
        (("backup", "--to", "home.yml"), "home.yml: is there already", 1),
        (("backup", "check", "nowhere"), "nowhere: cannot be read: No such file", 1),
        (("backup", "check", "home.yml"), "home.yml: is damaged, not whole, or no sealed file", 1),
        (("restore", "home.yml", "--yes"), "home.yml: is damaged, not whole, or no sealed file", 1),
        (("restore", "home.yml", "--identity", "none"), "PADDOCK_AGE_IDENTITY: none: there is no such file", 1),
    ],
)
def test_what_cannot_be_is_said_in_one_line(paddock: Paddock, arguments: tuple[str, ...], words: str, code: int) -> None:
    found, _, err = paddock(*arguments)
    assert found == code and words in err.splitlines()[-1], err


def test_an_identity_may_be_named(paddock: Paddock, tmp_path: Path) -> None:
    paddock("backup", "--to", "kept")
    shutil.move(tmp_path / "home" / ".config" / "paddock" / "identity.txt", tmp_path / "usb")
    code, _, err = paddock("backup", "check", "kept")
    assert code == 1 and "was encrypted for others than you" in err
    assert not (tmp_path / "home" / ".config" / "paddock" / "identity.txt").exists()
    assert paddock("backup", "check", "kept", "--identity", "usb")[0] == 0
    (tmp_path / "other").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    (tmp_path / "other").chmod(0o600)
    assert "was encrypted for others than you (age1" in paddock("restore", "kept", "--identity", "other", "--yes")[2]
