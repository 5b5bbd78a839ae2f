"""The options that Paddock reads out of llama.cpp's source are those that llama-server itself tells of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Story

from control.fetching.download import silent
from control.llama_cpp.options import checked, learned, shipped_anew
from inventory.errors import InventoryError
from inventory.limits import WAITS_FOR_EVER
from inventory.load import load, loaded
from inventory.options import SHIPPED, read
from roles.source import DEFAULT, Source
from tests.share import turn

pytestmark = turn(1, of=5)

BEFORE = Source(sdist="llama-cpp-python==0.3.35", sha256="1139dbb54509074b70893fab8554e3b079aa9f4d312058ce4018ef0019e3de12")
"""It warns of `mlock`, which the next has no more."""

INVENTORY = """
fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles: {{llama_cpp: {{source: {{sdist: {0.sdist}, sha256: {0.sha256}}}}}, models: , llama_server: {{models: [demo]}}}}
models:
  demo: {{preset: {{mlock: on}}}}
"""


def test_the_list_that_ships_is_what_the_source_says() -> None:
    assert SHIPPED.read_text() == shipped_anew().written()


def test_it_has_every_option_of_the_help_with_all_its_spellings_and_whether_it_takes_a_value(story: Story) -> None:
    story.begin()
    told = dict(helped(story.inside("ai", "/opt/paddock/llama.cpp/current/bin/llama-server --help")))
    known = {
        option.names + option.negated: option.takes not in ("nothing", "on-off")
        for option in read(SHIPPED.read_text()).all
        if option.part != "preset"
    }
    assert len(told) > 200
    assert told == known


def helped(text: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """`-c,    --ctx-size N      size of …` → `(("-c", "--ctx-size"), True)`"""
    for line in text.splitlines():
        if found := re.match(r"((?:--?\w[\w.-]*)(?:, +--?\w[\w.-]*)*)( \S)?", line):
            yield tuple(re.split(r", +", found[1])), found[2] is not None


def test_a_key_that_the_next_version_has_no_more_is_caught_in_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(INVENTORY.format(BEFORE))
    assert WAITS_FOR_EVER in learned(BEFORE, tmp_path, silent).rules
    (going,) = checked(loaded(path).positions, load(path)).going
    assert going.endswith('"mlock" is deprecated in llama-server as of 0.3.35: use --load-mode')
    path.write_text(INVENTORY.format(DEFAULT))
    with pytest.raises(InventoryError, match="it was removed, write `load-mode: mlock`"):
        checked(loaded(path).positions, load(path))
