"""A mistake of YAML syntax is told where it began, which is often a line before the parser notices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.errors import InventoryError
from inventory.load import load
from tests.share import spread

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "inventory").glob("*.yml"))
BEGIN = "fleet: home\ndomain: home.example\n"

KEY = re.compile(r"( *)([A-Za-z0-9_.-]+):(?= ?)")
QUOTED = re.compile(r'"[^"\\]*"')


def told(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "home.yml"
    path.write_text(text)
    with pytest.raises(InventoryError) as caught:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fleet: home\ndomain home.example\nhosts: {ai: {address: 192.0.2.1}}\n", "2:1: is not YAML: a colon is missing"),
        ("fleet home\ndomain: home.example\n", "1:1: is not YAML: a colon is missing"),
        ("fleet:home\ndomain: home.example\n", "1:1: is not YAML: a space is missing behind the colon"),
        (BEGIN + "hosts:\n  ai\n    address: 192.0.2.1\n", "4:3: is not YAML: a colon is missing"),
        (BEGIN + "hosts:\n  ai  # the one\n    address: 192.0.2.1\n", "4:3: is not YAML: a colon is missing"),
        (BEGIN + "hosts:\n  ai:\n    address: 192.0.2.1\n    user:ai\n    port: 22\n", "6:5: is not YAML: a space is missing"),
        (BEGIN + "hosts:\n  ai:\n    address: 192.0.2.1\n    port:22\n", "6:5: is not YAML: a space is missing"),
        (BEGIN + "hosts:\n  ai:\n    address: 192.0.2.1\n    port 22\nmodels:\n", "6:5: is not YAML: a colon is missing"),
        (BEGIN + "hosts:\n  ai:\n    port:22  # of sshd\n    address: 192.0.2.1\n", "5:5: is not YAML: a space is missing"),
        (
            BEGIN + 'hosts:\n  ai:\n    address: "192.0.2.1\n    user: "ai"\n',
            "5:14: is not YAML: a quote opens here and is not closed on its line",
        ),
        (
            BEGIN + "hosts:\n  ai:\n    address: '192.0.2.1\n    user: 'ai'\n    port: 22\n",
            "5:14: is not YAML: a quote opens here and is not closed",
        ),
        (
            BEGIN + 'networks:\n  - "192.0.2.0/24\n  - "198.51.100.0/24"\n',
            "4:5: is not YAML: a quote opens here and is not closed on its line",
        ),
        (
            BEGIN + 'hosts:\n  ai:\n    address: "192.0.2.1\n    port: 22\n',
            "5:14: is not YAML: a quote opens here and is not closed on its line",
        ),
        (BEGIN + 'hosts:\n  ai:\n    address: "192.0.2.1\n', "5:14: is not YAML: a quote opens here and is never closed"),
        (
            BEGIN + 'networks: ["192.0.2.0/24, "198.51.100.0/24"]\n',
            "3:12: is not YAML: the quote that opens here ends before the text does",
        ),
        (BEGIN + "settle: 'it's'\n", "3:9: is not YAML: the quote that opens here ends before the text does"),
        (
            "fleet: home\n  domain: home.example\n",
            "2:3: is not YAML: this line is indented deeper than the one before it, which has a value",
        ),
        ("  fleet: home\ndomain: home.example\n", "1:3: is not YAML: the first line is indented, and line 2"),
        (BEGIN + "...\nhosts:\n", "4:1: is not YAML: the document is over before this line"),
        ("[a]\nb: 1\n", "2:1: is not YAML: the document is over before this line"),
        ("%YAML\nfleet: home\n", "1:6: is not YAML: a line that begins with % is a directive"),
        ("%YAML 9.9\nfleet: home\n", "1:1: is not YAML: a line that begins with % is a directive"),
        ("fleet: {a: [1, {b: ", "1:16: is not YAML: the bracket that opens here is never closed"),
        ("hosts:\n  - {c: d,\n  - {e: f}\n", "2:5: is not YAML: the bracket that opens here is never closed"),
        ("fleet: [a, , b]\n", "1:12: is not YAML: a value is missing in front of this comma"),
        ("fleet: [a]]\n", "1:11: is not YAML: this bracket closes none that is open"),
        ("clients: {anna:, bob: }\n", "1:15: is not YAML: a space is missing behind this colon"),
        ("fleet: , home\n", "1:8: is not YAML: a comma separates things within brackets only"),
        ("fleet: *\n", "1:8: is not YAML: text that begins with & or * has to be in quotes"),
        ("fleet: !x!home home\n", "1:8: is not YAML: text that begins with ! has to be in quotes"),
        ('fleet: "\\ud800"\n', "1:11: is not YAML: a backslash in double quotes begins an escape"),
        ("# nothing\n---", "2:1: an inventory is a mapping"),
    ],
)
def test_each_is_told_where_it_began(text: str, problem: str, tmp_path: Path) -> None:
    (found,) = told(text, tmp_path)
    assert found.startswith(problem)


def mutations(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """The text without one of its colons, of the spaces behind them, or of its closing quotes; and where that mistake begins."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        cut: list[tuple[str, int]] = []
        if found := KEY.match(line):
            cut.append((line[: found.end() - 1] + line[found.end() :], found.start(2)))
            if re.match(r" [^ #]", line[found.end() :]):
                cut.append((line[: found.end()] + line[found.end() + 1 :], found.start(2)))
        if not line.lstrip().startswith("#"):
            cut += [(line[: each.end() - 1] + line[each.end() :], each.start()) for each in QUOTED.finditer(line.partition(" #")[0])]
        for changed, column in cut:
            yield "\n".join([*lines[:number], changed, *lines[number + 1 :]]), (number + 1, column + 1)


@pytest.mark.parametrize("path", spread("mistakes of syntax", EXAMPLES, 2), ids=lambda path: path.stem)
def test_wherever_it_is_in_an_example_it_is_told_there(path: Path, tmp_path: Path) -> None:
    many = 0
    for text, (line, column) in mutations(path.read_text()):
        first = told(text, tmp_path)[0]
        assert first.startswith(f"{line}:{column}: "), first
        many += 1
    assert many > 20
