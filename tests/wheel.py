"""The wheel, built as `pip wheel .` builds it in a fresh clone."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_PRODUCT = (".ci", "docs", "scripts", "tests")


def tracked() -> Iterator[str]:
    """The files of a clone, from its root: `cli/check.py`"""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    yield from (name for name in listed.split("\0") if name and (ROOT / name).is_file())


def product() -> set[str]:
    """The files of a clone that are needed to run Paddock."""
    return {name for name in tracked() if "/" in name and name.partition("/")[0] not in NOT_PRODUCT}


def built(scratch: Path) -> Path:
    """The wheel. The clone that the tests run in is only read."""
    clone, out = scratch / "clone", scratch / "wheels"
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), "."], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("paddock-*.whl"))


def digests(directory: Path) -> Mapping[str, str]:
    """Each file's SHA-256 by its path, without what Python compiles."""
    files = (path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
