"""Whatever is wrong with an inventory, `check` tells it with its place, in time: 20,000 mistakes at a known place, 20,000 of bytes."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import random
import re
import time
from pathlib import Path

import pytest

from cli import main
from tests.share import chance, spread
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
    """Where each is written."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDOCK_STATE", raising=False)
    return place_in(tmp_path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Text]:
    """The inventories in which nothing is wrong."""
    path, found = place_in(tmp_path_factory.mktemp("good")), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(path.parent / "home"))
        patched.delenv("PADDOCK_STATE", raising=False)
        for text in mutations.inventories().values():
            path.write_text(text)
            if main(["-i", str(path), "check"]) == 0:
                found.append(Text(text))
    return found


def place_in(directory: Path) -> Path:
    """An inventory beside the files that the one with every role names."""
    (directory / everything.ROOT).write_text(pem("the root"))
    (directory / "caddy.deb").touch()
    return directory / "home.yml"


NUMBERS = spread("mutations of inventories", range(MANY), SHARE)
BATCHES = [NUMBERS[begin : begin + AT_A_TIME] for begin in range(0, len(NUMBERS), AT_A_TIME)]


@pytest.mark.parametrize("numbers", BATCHES, ids=lambda numbers: f"from-{numbers[0]}")
def test_a_mistake_is_told_where_it_was_made(numbers: list[int], good: list[Text], path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One in ten of those that are none is rendered too."""
    found = {}
    for number in numbers:
        draw = chance(f"mistake {number}")
        mutant = mutations.at_a_place(good, draw)
        path.write_bytes(mutant.text.encode(errors="surrogatepass"))
        code, told, took = checked(path, capsys)
        words = wrong(path, mutant, code, told, took)
        if code == 0 and not words and draw.random() < 0.1 and main(["-i", str(path), "render", "--to", str(path.parent / "rendered")]):
            words = f"was accepted, and cannot be rendered: {capsys.readouterr().err}"
        if words:
            found[number] = f"{mutant.kind} {words}\n{told}"
    assert not found


@pytest.mark.parametrize("numbers", BATCHES, ids=lambda numbers: f"from-{numbers[0]}")
def test_whatever_bytes_have_changed_has_its_place(numbers: list[int], path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mutations.bytes_of_all()
    found = {}
    for number in numbers:
        kind, data = mutations.of_bytes(before, chance(f"bytes {number}"))
        path.write_bytes(data)
        code, told, took = checked(path, capsys)
        if words := wrong(path, Mutant(kind, ""), code, told, took):
            found[number] = f"{kind} {words}\n{told}"
    assert not found


def test_most_mistakes_are_at_a_known_place(good: list[Text]) -> None:
    assert len(good) > 30
    made = [mutations.at_a_place(good, random.Random(number)) for number in range(1000)]
    assert len({each.kind for each in made}) > 25
    assert sum(bool(each.at) for each in made) > 500


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
