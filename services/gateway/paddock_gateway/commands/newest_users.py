"""newest-users: an older configuration that is put back lets in whom the newest one does, and nobody else."""

from __future__ import annotations

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paddock_gateway.commands.words import show
from paddock_gateway.settings import SettingsError, configuration


def write(options: Namespace) -> int:
    """The file may be another version's, which knows other keys: it is not read as this version's. Raises SettingsError."""
    configuration(options.configuration)
    newest, older = _read(options.configuration), _read(options.file)
    users = list(newest_users(newest.get("users", ()), older))
    near = options.file.with_name(f".{options.file.name}.new")
    try:
        shutil.copyfile(options.file, near)
        shutil.copystat(options.file, near)
        whose = options.file.stat()
        if os.geteuid() == 0:
            os.chown(near, whose.st_uid, whose.st_gid)
        near.write_text(json.dumps({**older, "users": users}, indent=1) + "\n", "utf-8")
        near.replace(options.file)
    except OSError as error:
        raise SettingsError(f"{options.file}: {error.strerror}") from None
    show(options, {"users": len(users)}, f"{options.file}: lets in the {len(users)} users of {options.configuration}")
    return 0


def newest_users(users: Sequence[Mapping[str, Any]], older: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """In the words of the older configuration: with the keys that its users have, where it has any, and the models that it has."""
    known = {key for each in older.get("users", ()) for key in each}
    models = {name for model, entry in older.get("models", {}).items() for name in (model, *entry.get("aliases", ()))}
    for user in users:
        said = {key: value for key, value in user.items() if not known or key in known}
        if said.get("models") is not None:
            said["models"] = [name for name in said["models"] if name in models]
        yield said


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
        if not isinstance(said, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from None
    return said
