"""The files of the control machine that an inventory names, and which of them are not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from roles.role import Here


class LocalFile(NamedTuple):
    """`keys` lead to it from the settings that were looked through."""

    keys: tuple[str, ...]
    path: str
    here: Here


def local_files(settings: BaseModel) -> Iterator[LocalFile]:
    """Every file or directory that settings name whose type says that it has to be there (`roles.role.Here`), those within them too."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, str) and (here := _marks(type(settings)).get(name)):
            yield LocalFile((name,), value, here)
        for key, inner in _settings_in(value):
            yield from (each._replace(keys=(name, *key, *each.keys)) for each in local_files(inner))


def missing(path: str, here: Here, beside: Path) -> str:
    """Why a file is none that can be used, and what to do; empty where all is well. A relative path starts at `beside`."""
    file = beside / Path(path).expanduser()
    try:
        if not file.exists():
            return f"there is no {'directory' if here.holds else 'file'} {file} on this machine"
        if lacking := [name for name in here.holds if not (file / name).is_file()]:
            return f"{file} has no {' and no '.join(lacking)}: name the top of a source tree of llama.cpp"
        if not here.holds and not file.is_file():
            return f"{file} is no file: name the file itself"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return "" if os.access(file, os.R_OK) else f"{file} cannot be read: let this account read it"


@cache
def _marks(settings: type[BaseModel]) -> Mapping[str, Here]:
    """Which fields of settings name such a file."""
    found = {}
    for name, field in settings.model_fields.items():
        for each in (*field.metadata, *_annotations(field.annotation)):
            if isinstance(each, Here):
                found[name] = each
    return found


def _annotations(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for each in get_args(annotation):
        yield from _annotations(each)


def _settings_in(value: object) -> Iterator[tuple[tuple[str, ...], BaseModel]]:
    """The settings that a value is or holds, each with the keys that lead there."""
    if isinstance(value, BaseModel):
        yield (), value
    elif isinstance(value, Mapping):
        yield from (((str(key), *rest), each) for key, inner in value.items() for rest, each in _settings_in(inner))
    elif isinstance(value, tuple):
        yield from (((str(at), *rest), each) for at, inner in enumerate(value) for rest, each in _settings_in(inner))
