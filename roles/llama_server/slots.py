"""Saved slots belong to a release: another may have another format for them, as llama.cpp 1.0.0 has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resources import Release

OPTION = "slot-save-path"


def keyed(preset: Mapping[str, Any], release: Release | None) -> dict[str, Any]:
    """The preset with its slots in a directory of the release's own, below the one that it names."""
    return {option: _of_release(str(value), release) if option == OPTION else value for option, value in preset.items()}


def directories(presets: Iterable[Mapping[str, object]], release: Release | None) -> tuple[str, ...]:
    """The directories of saved slots that a server's presets lead to. A start with another release drops those beside them."""
    named = (_of_release(str(preset[OPTION]), release) for preset in presets if OPTION in preset)
    return tuple(dict.fromkeys(named)) if release else ()


def _of_release(path: str, release: Release | None) -> str:
    return f"{path.rstrip('/')}/{release.name}" if release else path
