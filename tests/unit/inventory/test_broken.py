"""Each inventory in `broken/` is told to be wrong as its first lines (or its `.expect`) say, and nothing more is told."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from inventory.errors import InventoryError
from inventory.fleet import Fleet
from inventory.load import load
from tests.share import spread

ROOT = Path(__file__).parents[3]
BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yml"))
DEMO = ROOT / "inventory" / "demo.yml"

# Ends a process that reaches for the network or for another program. Python reads it from PYTHONPATH before anything else.
ALONE = """
import os, sys
REFUSED = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
sys.addaudithook(lambda event, arguments: os._exit(97) if event in REFUSED else None)
"""


def expected(path: Path) -> list[str]:
    sidecar = path.with_suffix(".expect")
    if sidecar.exists():
        return sidecar.read_text().splitlines()
    marked = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert marked, f"{path.name} does not say what is wrong with it"
    return marked


def alone(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(ALONE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    return subprocess.run([sys.executable, *command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 44


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_is_told_with_line_and_column_and_nothing_else_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(path), "check"]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [f"{path}:{line}" for line in expected(path)]
    assert not told.out


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("many-at-once", ("check",)),
        ("many-at-once", ("up", "--yes")),
        ("upstream-out-of-reach", ("up", "--yes")),
        ("not-yaml-quote", ("status",)),
    ],
)
def test_the_command_tells_it_without_a_connection_or_another_program(name: str, verb: tuple[str, ...], tmp_path: Path) -> None:
    path = next(each for each in BROKEN if each.stem == name)
    done = alone(tmp_path, "-m", "cli", "-i", str(path), *verb)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"{path}:{line}" for line in expected(path)]


def test_a_connection_would_have_shown(tmp_path: Path) -> None:
    assert alone(tmp_path, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))").returncode == 97


def told(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        load(path)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{path}: ")


@pytest.mark.parametrize("filling", ["# " + "x" * 78 + "\n", "- x\n", "x"], ids=["comments", "items", "one-word"])
def test_a_file_over_ten_megabytes_is_not_read(filling: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "large.yml"
    path.write_text(filling * (10_000_000 // len(filling) + 1))
    assert main(["-i", str(path), "check"]) == 2
    assert capsys.readouterr().err == f"{path}:1:1: is larger than 10 MB: this is not an inventory\n"


def test_a_list_of_a_million_is_too_many(tmp_path: Path) -> None:
    path = tmp_path / "long.yml"
    path.write_text("- x\n" * 1_000_000)
    assert "more than 500,000 values" in told(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert told(tmp_path / "none.yml").startswith("there is no such file")


def test_a_directory_is_no_inventory(tmp_path: Path) -> None:
    assert told(tmp_path) == "this is a directory: name the YAML file in it"


def test_a_file_below_a_file_cannot_be_read() -> None:
    assert told(DEMO / "demo.yml") == "cannot be read: Not a directory"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that refuses to be read, root or not")
def test_a_file_that_refuses_to_be_read_is_said_to() -> None:
    assert told(Path("/proc/self/mem")) == "cannot be read: Input/output error"


MISHAPS = (
    b"\t",
    b"[",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!x ",
    b"- ",
    b": ",
    b"? ",
    b'"',
    b"'",
    b"|",
    b"---\n",
    b"...",
    b"%",
    b"\x00",
    b"\xff",
    b"1:30",
    b"[1:9]",
    b"on",
)


@pytest.mark.parametrize("seed", spread("damaged inventories", range(8), 3))
def test_a_damaged_inventory_is_a_fleet_or_told_to_be_broken(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    path = tmp_path / "damaged.yml"
    lines = re.compile(rf"{re.escape(str(path))}:[0-9]+:[0-9]+: [^\n]+")
    for _ in range(60):
        data = bytearray(DEMO.read_bytes())
        for _ in range(chance.randint(1, 4)):
            begin = chance.randrange(len(data))
            data[begin : begin + chance.choice((0, 0, 1, 5, 40))] = chance.choice(
                (*MISHAPS, bytes(data[chance.randrange(len(data)) :][:30]))
            )
        path.write_bytes(data)
        try:
            assert isinstance(load(path), Fleet)
        except InventoryError as error:
            assert error.problems
            assert all(map(lines.fullmatch, error.problems))
