"""Lock files beside an inventory: what something turned out to be that the inventory does not say. For git, as the inventory is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from inventory.bounds import LOCAL_FILE, size_words
from inventory.errors import InventoryError
from roles.role import Settings

L = TypeVar("L", bound=Settings)


def read_lock_file(path: Path, kind: type[L], what: str, again: str) -> L:
    """The lock, an empty one where there is no such file. Raises InventoryError where it cannot be read.

    `what` it is a lock of, and the command that writes it `again`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LOCAL_FILE.size + 1)
        if len(data) > LOCAL_FILE.size:
            raise InventoryError(
                [f"{path}: is larger than {size_words(LOCAL_FILE.size)}: put it back from git, or remove it and run {again}"]
            )
        return kind.model_validate_json(data)
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise InventoryError([f"{path}: cannot be read: {error.strerror}"]) from None
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"]))
        why = f"{where}: {found['msg']}" if where else found["msg"]
        raise InventoryError([f"{path}: is not a lock of {what} ({why}): put it back from git, or remove it and run {again}"]) from None
