"""Package files that are newer than the distribution's: fetched once, checked, kept under ~/.cache/paddock/packages."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from control.fetching.download import Progress, fetched
from control.state.fleet import in_words
from inventory.errors import PaddockError
from roles.package_file import PackageFile

CACHE = Path("~/.cache/paddock/packages")


def package_file(package: PackageFile, key: str, beside: Path, progress: Progress) -> Path:
    """The file on this machine; a relative `path` starts at `beside`. The inventory names it under `key`: `caddy.package`.

    Raises PaddockError where it is missing, or not the one meant.
    """
    if package.path:
        path = beside / Path(package.path).expanduser()
        if not path.is_file():
            raise PaddockError(f"{key}.path: there is no file {path}")
        with in_words(path, "cannot be read"), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != package.sha256:
            raise PaddockError(f"{key}.sha256: {path} has {found}, the inventory says {package.sha256}")
        return path
    assert package.url
    kept = CACHE.expanduser() / f"{package.sha256}.deb"
    if not kept.exists():
        with in_words(kept, "cannot be written"):
            kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            fetched(package.url, package.sha256, Path(scratch), aside=kept.parent, progress=progress).replace(kept)
    return kept
