"""What npm may write and how long it may take, while it fetches what a llama.cpp source's lock names."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from control.llama_cpp import page
from inventory.errors import PaddockError


@pytest.mark.parametrize(
    ("script", "bound", "words"),
    [
        ("while :; do n=$((n + 1)); head -c 65536 /dev/zero >package-$n; sleep 0.05; done", {"size": 1 << 20}, "writes more than 1 MiB"),
        ("sleep 60", {"seconds": 1}, "has not ended within 1 s"),
    ],
)
def test_npm_that_does_not_end_is_ended_and_nothing_of_it_stays(
    script: str, bound: dict[str, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(page, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(page, "LOOKS_EVERY_S", 0.1)
    monkeypatch.setattr(page, "node_directory", lambda: npm.parent)
    monkeypatch.setattr(page, "GIT", replace(page.GIT, **bound))
    with pytest.raises(PaddockError, match=f"^llama.cpp's web page: `npm ci` {words}$"):
        page.web_page({"package.json": b"{}"})
    assert sorted(each.name for each in (tmp_path / "cache" / "pages").iterdir()) == ["lock", "npm.log"]
