"""prepare; copies make, try, list, send, receive, put-back, take-back, undo, settle, remove."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from paddock_gateway.commands.opened import become, become_owner
from paddock_gateway.commands.trial import tried
from paddock_gateway.commands.words import show, table
from paddock_gateway.settings import Configuration, configuration
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import StoreError
from paddock_gateway.store.dumps import Dumps, Record, is_due
from paddock_gateway.store.opening import where
from paddock_gateway.store.sources import source_of

ADMINISTRATOR = "postgres"
"""The account that Postgres on the same host lets do everything."""

HEADINGS = ("NAME", "TABLES", "ROWS", "SIZE")

T = TypeVar("T")


def prepare(options: Namespace) -> int:
    """The copy is made by who may read and make databases, the migration by who owns the tables."""
    said = configuration(options.configuration)
    with _child() as child:
        due = child.submit(_is_due, said).result()
    if not due:  # and nothing is made on the disk
        show(options, {"migrated": False}, f"{where(said)}: nothing to migrate")
        return 0
    made = _tried(_prepared, said, options.directory)
    from paddock_gateway.store.migrate import migrate

    become_owner(said)
    revision = migrate(said)
    before = f"; the copy {made.name} was made before" if made else ""
    show(
        options,
        {"migrated": True, "copy": made and made.name, "revision": revision},
        f"{where(said)}: its tables are at {revision}{before}",
    )
    return 0


def try_out(options: Namespace) -> int:
    """Nothing is changed, and no copy stays."""
    said = configuration(options.configuration)
    _tried(_tried_out, said, options.directory)
    show(options, {"serves": True}, f"this version serves with a copy of {where(said)}")
    return 0


Tries = Callable[[Configuration, Path], T]
"""What makes a copy, and asks `_ask` to try it."""


def _tried(tries: Tries[T], said: Configuration, directory: Path) -> T:
    """Who makes the scratch database owns no tables: this process has it migrated, and served, by who does."""
    ours, theirs = get_context("fork").Pipe()
    with ProcessPoolExecutor(1, get_context("fork"), _asking, (theirs, ours)) as child:
        doing = child.submit(tries, said, directory)
        while not doing.done():
            if ours.poll(0.05):
                ours.send(tried(ours.recv()))
        return doing.result()


_ours: Connection | None = None
"""In a process that makes a copy: where it asks."""


def _asking(own: Connection, other: Connection) -> None:
    global _ours
    _ours = own
    other.close()  # this one ends where the other has gone


def _ask(scratch: Configuration) -> None:
    assert _ours
    _ours.send(scratch)
    if words := _ours.recv():
        raise StoreError(words)


def _child() -> ProcessPoolExecutor:
    """A process that may become another account."""
    return ProcessPoolExecutor(1, get_context("fork"))


def _prepared(said: Configuration, directory: Path) -> Record | None:
    return asyncio.run(_dumps(said, directory).prepare(_ask))


def _tried_out(said: Configuration, directory: Path) -> None:
    asyncio.run(_dumps(said, directory).try_out(_ask))


def _is_due(said: Configuration) -> bool:
    _become_administrator(said)
    return asyncio.run(is_due(source_of(said).access))


def make(options: Namespace) -> int:
    made = _run(options, lambda dumps: dumps.make("asked"))
    show(options, made, f"{made.name}: {_line(made)}")
    return 0


def show_all(options: Namespace) -> int:
    records = _opened(options).records()
    rows = [(each.name, each.revision, f"{sum(each.rows.values()):,}", f"{each.size:,}") for each in records]
    show(options, records, table(HEADINGS, rows, "there are none"))
    return 0


def send(options: Namespace) -> int:
    _opened(options).send(options.name, sys.stdout.buffer)
    return 0


def receive(options: Namespace) -> int:
    taken = _opened(options).receive(sys.stdin.buffer)
    show(options, taken, f"{taken.name}: {_line(taken)}")
    return 0


def put_back(options: Namespace) -> int:
    replaced = _run(options, lambda dumps: dumps.put_back(options.name))
    words = (
        f"{len(replaced.revoked)} keys that were let in when it was made stay out"
        if replaced.known
        else "who was let in since is not known"
    )
    show(options, replaced, f"{options.name} was put back: {words}; `copies undo` takes that back, `copies settle` makes it last")
    return 0


def take_back(options: Namespace) -> int:
    replaced = _run(options, lambda dumps: dumps.take_back(options.name))
    words = f"{options.name} was put back; what was written since is aside" if replaced else "the database was not migrated since"
    show(options, {"replaced": bool(replaced)}, words)
    return 0


def undo(options: Namespace) -> int:
    done = _run(options, lambda dumps: dumps.source.undo())
    show(options, {"undone": done}, "the database of before is in its place again" if done else "there is none aside")
    return 0


def settle(options: Namespace) -> int:
    _run(options, lambda dumps: dumps.source.settle())
    show(options, {"settled": True}, "nothing is aside any more")
    return 0


def remove(options: Namespace) -> int:
    _opened(options).remove(options.name)
    show(options, {"removed": options.name}, f"{options.name} was removed")
    return 0


def _line(record: Record) -> str:
    return f"{record.size:,} bytes, {sum(record.rows.values()):,} rows in {len(record.rows)} tables, at {record.revision}"


def _run(options: Namespace, work: Callable[[Dumps], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work(_opened(options)))


def _opened(options: Namespace) -> Dumps:
    return _dumps(configuration(options.configuration), options.directory)


def _dumps(said: Configuration, root: Path) -> Dumps:
    """The directory is there, and this process is the account whose it is. Raises StoreError."""
    directory = root / ("sqlite" if sqlite.path_in(said.database) else "postgres")
    try:
        root.mkdir(mode=0o711, exist_ok=True)
        if os.geteuid() == 0:
            root.chmod(0o711)  # whatever the umask: an account passes through to its own
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and (user := _administrator(said)) and directory.lstat().st_uid != user:
            os.chown(directory, user, -1, follow_symlinks=False)
    except OSError as error:
        raise StoreError(f"{error.filename or directory}: {error.strerror}") from None
    _become_administrator(said)
    return Dumps(directory, said)


def _become_administrator(said: Configuration) -> None:
    if os.geteuid() == 0 and (user := _administrator(said)):
        become(user)


def _administrator(said: Configuration) -> int:
    """Who may copy the database and make others; 0 where root goes on."""
    path = sqlite.path_in(said.database)
    if path:
        with suppress(FileNotFoundError):
            return path.parent.stat().st_uid
        return 0
    if said.database_password_file:
        return 0
    try:
        return pwd.getpwnam(ADMINISTRATOR).pw_uid
    except KeyError:
        raise StoreError(f"there is no account {ADMINISTRATOR} here: {where(said)} is copied on the host that it runs on") from None
