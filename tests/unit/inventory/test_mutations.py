"""Whatever is wrong with an inventory, `check` tells it with its place, in time: of 20,000 mistakes at a known place, and 20,000 of bytes."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli import main
from tests.share import WHOLE, chance, spread
from tests.unit.inventory import mutations
from tests.unit.inventory.mutations import Mutant, Text
from tests.unit.roles import everything
from tests.unit.roles.small_fleet import pem

assert control.ssh.cooperative

MANY, AT_A_TIME, SHARE = 20_000, 1_000, 60
SECONDS = 5.0
LINE = re.compile(r":(?P<line>\d+):(?P<column>\d+): (?P<words>.+)")
PARSER = re.compile("^is not YAML: .*(while (parsing|scanning)|did not find|found (un|in|a |char))")
"""What libyaml says, which helps nobody to repair a file."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each is written, beside the files that the one with every role names."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDOCK_STATE", raising=False)
    (tmp_path / everything.ROOT).write_text(pem("the root"))
    (tmp_path / "caddy.deb").touch()
    return tmp_path / "home.yml"


def checked(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, float]:
    """The exit code of `check`, what it says, and the seconds of the processor that it took."""
    began = time.process_time()
    code = main(["-i", str(path), "check"])
    took = time.process_time() - began
    return code, capsys.readouterr().err, took


def wrong(path: Path, mutant: Mutant, code: int, told: str, took: float) -> str:
    """What is wrong with what `check` said; nothing where it is as it has to be."""
    if took > SECONDS:
        return f"took {took:.1f} s"
    if code == 0:
        return "was accepted" if mutant.refused else ""
    if code != 2:
        return f"ended with {code}"
    found = [LINE.fullmatch(line.removeprefix(str(path))) for line in told.splitlines()]
    if not found or not all(found):
        return "has no place"
    lines = mutations.lines_of(path.read_bytes())
    errors = [(int(each["line"]), int(each["column"]), each["words"]) for each in found if each]
    if any(line > len(lines) or column > len(lines[line - 1]) + 1 for line, column, _ in errors):
        return "has a place that is not in the file"
    if any(PARSER.search(words) for _, _, words in errors):
        return "is told in the words of the parser"
    at_place = (any(line == at and first <= column <= last for at, first, last in mutant.at) for line, column, _ in errors)
    if mutant.at and not any(there and mutant.says in words for there, (_, _, words) in zip(at_place, errors, strict=True)):
        return f"is not told at {mutant.at} with {mutant.says!r}"
    return ""
