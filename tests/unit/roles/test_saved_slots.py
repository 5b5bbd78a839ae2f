"""Saved slots belong to a release: each has a directory of its own, and a start with another drops it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from small_fleet import Small

from resources import Release
from roles.llama_server.plan import PRESETS, SLOTS_SCRIPT
from roles.role import TEMPLATES

SCRIPT = TEMPLATES / "llama_server" / "slots.sh"


@pytest.mark.parametrize("says", ["models", "role", "instance"])
def test_slots_are_saved_where_only_this_release_looks_for_them(small: Small, says: str) -> None:
    server, preset = small.roles["ai"]["llama_server"], {"slot-save-path": "/srv/slots/"}
    server["opens"] = ["slot-save-path"]
    if says == "models":
        small.models["demo"]["preset"] = preset
    elif says == "role":
        server["preset"] = preset
    else:
        server["instances"] = {"fast": {"model": "code", "listen": "127.0.0.1:8081", "preset": preset}}
    plan = small.plan("ai")
    (release,) = (each for each in plan.values() if isinstance(each, Release))
    own, unit = f"/srv/slots/{release.name}", "llama-server-fast" if says == "instance" else "llama-server"
    text = small.text("ai", f"/etc/systemd/system/{unit}.service")
    assert own in (text.partition("ExecStart=")[2] if says == "instance" else text.partition("ExecStart=")[2] + small.text("ai", PRESETS))
    assert f"ExecStartPre=/bin/sh {SLOTS_SCRIPT} {own}\n" in text
    assert "ReadWritePaths=/srv/slots\n" in text
    assert f"file:{SLOTS_SCRIPT}" in plan


def test_where_none_are_saved_nothing_is_made(small: Small) -> None:
    assert f"file:{SLOTS_SCRIPT}" not in small.plan("ai")
    assert "slots" not in small.text("ai", "/etc/systemd/system/llama-server.service")


def start(*paths: Path) -> None:
    done = subprocess.run(["dash", SCRIPT, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_switch_drops_the_slots_of_the_release_before_in_either_direction(tmp_path: Path) -> None:
    older, newer = tmp_path / "0.3.34-00", tmp_path / "0.3.36-00"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.gguf").touch()
    for now, other in ((older, newer), (newer, older), (older, newer)):
        start(now)
        assert now.stat().st_mode & 0o777 == 0o700 and not other.exists()
        (now / "hello").touch()
        start(now, now)
        assert (now / "hello").exists(), "a restart drops nothing"
    assert (mine / "model.gguf").exists()
