"""gevent changes the standard library, and warns on standard error where `requests` was loaded before it: it has to come first."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate

import pytest

from tests.unit.test_import_rules import NAMES, ROOT, imported

COOPERATIVE = "control.ssh.cooperative"


def loads(name: str, loaded: list[str]) -> None:
    """Appends what the import of a module loads, in the order in which Python does so."""
    for package in accumulate(name.split("."), "{}.{}".format):
        if package not in loaded:
            loaded.append(package)
            follow(at_once(package), loaded)


def follow(names: Iterable[str], loaded: list[str]) -> list[str]:
    for name in names:
        loads(name, loaded)
    return loaded


@cache
def at_once(name: str) -> tuple[str, ...]:
    """What a module imports as it is loaded."""
    return imported(source(name), lazily=False) if name in NAMES else ()


@cache
def source(name: str) -> str:
    return (ROOT / NAMES[name]).read_text()


def is_late(loaded: list[str]) -> bool:
    return COOPERATIVE in loaded and "requests" in loaded[: loaded.index(COOPERATIVE)]


def ways(name: str) -> Iterator[list[str]]:
    """What is loaded once the module is there, and once each of its functions has run."""
    loads(name, at_first := [])
    yield at_first
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.FunctionDef):
            yield follow(imported(ast.unparse(node)), [*at_first])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_gevent_comes_before_requests(name: str) -> None:
    assert not any(is_late(each) for each in ways(name))


def test_one_that_comes_late_is_found() -> None:
    late = ["control.models.gguf", "control.ssh.reach"]
    assert is_late(follow(late, []))
    assert not is_late(follow([COOPERATIVE, *late], []))
