"""`paddock secrets recipients`, and what a new line in recipients.txt does to whoever is not at a terminal."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from cli import main
from tests.unit.cli.test_certs_verbs import INVENTORY

Paddock = Callable[..., tuple[int, str, str]]

OTHER = str(pyrage.x25519.Identity.generate().to_public())


@pytest.fixture
def paddock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paddock:
    """`paddock("secrets", "list")` for its code, its output and its errors, in a directory with an inventory; nobody is at the terminal."""
    (tmp_path / "home.yml").write_text(INVENTORY)
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main([*arguments, "-i", "home.yml"])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def shared(paddock: Paddock, tmp_path: Path) -> Paddock:
    """Somebody has added a key after the first secret."""
    assert paddock("secrets", "set", "token", stdin="old")[0] == 0
    with (tmp_path / ".paddock" / "home" / "recipients.txt").open("a") as file:
        file.write(f"{OTHER}  # ann\n")
    return paddock


def test_the_list_says_who_is_new_and_accepting_makes_them_known(shared: Paddock) -> None:
    code, told, _ = shared("secrets", "recipients")
    assert code == 0 and [line.split()[0] for line in told.splitlines()[:2]] == ["you", "NEW"]
    assert f"NEW    {OTHER} (# ann)" in told and "`--accept`" in told
    code, told, _ = shared("secrets", "recipients", "--accept")
    assert code == 0 and [line.split()[0] for line in told.splitlines()] == ["you", "known"]
    assert shared("secrets", "rotate") == (0, "1 encrypted again for 2 recipient(s)\n", "")


@pytest.mark.parametrize("verb", [("secrets", "rotate"), ("secrets", "set", "other"), ("certs", "renew", "--no-push")])
def test_a_verb_that_would_seal_to_a_new_one_is_refused_in_one_line(shared: Paddock, verb: tuple[str, ...]) -> None:
    code, _, told = shared(*verb, stdin="value")
    assert code == 1 and len(told.splitlines()) == 1
    assert f"{OTHER} (# ann) is a new recipient" in told and "`paddock secrets recipients --accept`" in told


def test_no_client_gets_into_the_inventory_that_no_certificate_can_be_sealed_for(shared: Paddock, tmp_path: Path) -> None:
    assert shared("certs", "issue", "tablet", "--yes", "--no-push")[0] == 1
    assert (tmp_path / "home.yml").read_text() == INVENTORY


def test_before_there_is_a_state_it_says_who_makes_it(paddock: Paddock, tmp_path: Path) -> None:
    code, _, told = paddock("secrets", "recipients")
    assert code == 1 and "lists no recipients yet" in told
    assert not (tmp_path / ".paddock").exists() and not (tmp_path / "home").exists()
