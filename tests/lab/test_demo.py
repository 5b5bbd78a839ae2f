"""`make deploy` in a fresh copy of the project, with a virtual environment of its own: the first thing that a newcomer does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab import hosts as lab_hosts
from tests.lab_fleet import ROOT

NAME = "fresh"
NOT_IN_A_CLONE = shutil.ignore_patterns(".git", ".venv", ".paddock", "build", "__pycache__", ".*_cache", "*.egg-info")


def test_make_deploy_alone_ends_with_a_completion(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "paddock", symlinks=True, ignore=NOT_IN_A_CLONE)
    demo = copy / "inventory" / "demo.yml"
    demo.write_text(demo.read_text().replace("fleet: demo ", f"fleet: {NAME} "))
    clean = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    try:
        done = subprocess.run(
            ["make", "deploy"], cwd=copy, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500
        )
    finally:
        lab_hosts.down(NAME)
    print(done.stdout, flush=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()[-1]
    assert said.startswith("asked, it answers: ") and len(said) > 30
