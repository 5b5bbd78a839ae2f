"""Builds a release on the host that this is called for. The build is a unit of the host's own: it goes on when nobody watches."""

from __future__ import annotations

from pathlib import Path

from deploys.building import compiled
from deploys.packages import installed
from roles.resources import Release


def build(release: Release, source: Path) -> None:
    """Ends when `release.path` is there, or with the host failed and why on stderr. `source` is what `control.sources` gives."""
    installed("llama.cpp: compiler", release.packages)
    compiled(name=f"llama.cpp {release.version}: build", release=release, source=source)
