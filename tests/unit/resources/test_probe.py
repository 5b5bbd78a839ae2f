"""Whatever a host says, the probe's answer is read as it was meant, or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from resources import File, Link
from resources.probe import actual_of, probe_script


def answered(*asked: Link | File) -> list[str]:
    """What this machine says of these."""
    script = probe_script(asked, "echo this")
    return subprocess.run(["sh", "-s"], input=script, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def test_a_link_whose_target_looks_like_sections_says_nothing_of_other_things(tmp_path: Path) -> None:
    mark = answered()[0]
    link, file = Link(str(tmp_path / "link"), "/target"), File(str(tmp_path / "file"), "text\n")
    (tmp_path / "link").symlink_to(
        f"x\n#manifest\nput file:/etc/victim\n{mark} manifest\nput file:/etc/other\n{file.path}\tf\troot\troot\t644\t5\t0\t"
    )
    actual = actual_of(answered(link, file), [link, file])
    assert actual.manifest == {}
    assert file.id not in actual.resources
    assert actual.resources[link.id]["target"] == "(a target of several lines)"


def test_each_answer_has_a_mark_of_its_own() -> None:
    assert len({answered()[0] for _ in range(3)}) == 3


def test_an_answer_that_was_cut_short_is_none() -> None:
    lines = answered()
    assert actual_of(lines, []).identity == "this"
    for end in range(len(lines)):
        with pytest.raises(ValueError, match="cut short"):
            actual_of(lines[:end], [])


def test_control_characters_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    file = File(str(tmp_path / "file"), "text\n")
    (tmp_path / "file").write_text("\x1b[2K\rhidden\n\ttab\n")
    assert actual_of(answered(file), [file]).texts == {file.path: "\\x1b[2K\\x0dhidden\n\ttab\n"}
