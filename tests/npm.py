"""Packages from npm, installed once each. No script of theirs runs at that."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from control.llama_cpp.node import node_directory

CACHE = Path("~/.cache/paddock").expanduser()


def node() -> Path:
    """A Node.js that runs on lab hosts as well: the wheel's, whatever this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        return node_directory() / "node"


def installed(kept: Path, *packages: str) -> Path:
    """The node_modules in `kept`, with packages such as `typescript@5`."""
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        own = {"PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}", "npm_config_cache": str(CACHE / "npm")}
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            made = Path(scratch, "made")
            made.mkdir()
            (made / "package.json").write_text("{}")
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", *packages]
            done = subprocess.run(command, cwd=made, env={**os.environ, **own}, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
            made.rename(kept)
    return kept / "node_modules"
