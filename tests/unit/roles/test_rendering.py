"""The rendered tree."""

from pathlib import Path

import pytest
from small_fleet import Small

from control.deployment.render import read, tree, write
from inventory.errors import PaddockError


def test_no_secret_is_in_the_tree(small: Small) -> None:
    rendered = tree(small.fleet, small.context)
    assert rendered["door/etc/caddy/paddock/ai.home.example.key"] == b"<secret>\n"
    assert not [path for path, content in rendered.items() if b"key of" in content]


def test_a_tree_that_was_written_is_read_back(small: Small, tmp_path: Path) -> None:
    rendered = tree(small.fleet, small.context)
    write(rendered, tmp_path / "out")
    assert read(tmp_path / "out") == rendered


def test_what_is_no_longer_planned_leaves_the_directory(small: Small, tmp_path: Path) -> None:
    write(tree(small.fleet, small.context), tmp_path / "out")
    write(tree(small.fleet, small.context, frozenset({"ai"})), tmp_path / "out")
    assert not (tmp_path / "out" / "door").exists()


def test_a_directory_with_something_else_in_it_is_left_alone(small: Small, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(PaddockError, match="name another directory"):
        write(tree(small.fleet, small.context), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"
