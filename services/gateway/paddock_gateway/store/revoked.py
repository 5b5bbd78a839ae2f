"""A copy of the database that is put back lets in nobody who has been thrown out since it was made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COUNTER = "SELECT max(counter) FROM changes"
"""Of changes of users and keys: a database that has seen fewer than a copy is not what became of it."""

KEYS = "SELECT keys.id, keys.disabled OR users.disabled FROM keys JOIN users ON users.name = keys.username WHERE keys.revoked IS NULL"


@dataclass(frozen=True)
class Keys:
    """`counter` is None where the table is empty; `disabled` has every key that is not revoked, by its id."""

    counter: int | None
    disabled: dict[str, bool]

    @classmethod
    def of(cls, counter: Sequence[Sequence[Any]], keys: Sequence[Sequence[Any]]) -> Keys:
        """Of the rows that COUNTER and KEYS give."""
        return cls(counter[0][0] if counter else None, {row[0]: bool(row[1]) for row in keys})


def shut_out(copied: Keys, there: Keys) -> list[tuple[str, tuple[Any, ...]]] | None:
    """Statements for the copy, each with its values, after which it lets in no key that the database in its place does not: that one is
    revoked, or disabled where it is only that. None where that database is not what became of the copy, and so cannot say."""
    if there.counter is None or there.counter < (copied.counter or 0):
        return None
    made: list[tuple[str, tuple[Any, ...]]] = []
    for key, disabled in copied.disabled.items():
        if key not in there.disabled:
            made.append(("UPDATE keys SET revoked = $2 WHERE id = $1", (key, time.time())))
        elif there.disabled[key] and not disabled:
            made.append(("UPDATE keys SET disabled = TRUE WHERE id = $1", (key,)))
    return [*made, ("UPDATE changes SET counter = $1", (there.counter + 1,))]


def keys_in(statements: Sequence[tuple[str, tuple[Any, ...]]]) -> list[str]:
    """The ids of the keys that they shut out."""
    return [values[0] for sql, values in statements if sql.startswith("UPDATE keys")]
