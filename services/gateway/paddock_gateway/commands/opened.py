"""The configuration and its database, opened for one command as the gateway's own user."""

from __future__ import annotations

import asyncio
import os
import pwd
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from paddock_gateway.pepper import pepper
from paddock_gateway.settings import Configuration, configuration
from paddock_gateway.store import sqlite
from paddock_gateway.store.opening import open_users
from paddock_gateway.store.users import UserTable

T = TypeVar("T")


def with_users(options: Namespace, work: Callable[[UserTable, Configuration], Awaitable[T]]) -> T:
    """Raises SettingsError, StoreError, Failure."""
    said = configuration(options.configuration)
    secret = pepper(Path(said.pepper_file))
    become_owner(said)

    async def worked() -> T:
        async with open_users(said, secret) as users:
            return await work(users, said)

    return asyncio.run(worked())


def become_owner(said: Configuration) -> None:
    """Root becomes who owns the database's directory: files that SQLite makes beside the database would be root's, and the gateway locked
    out; and Postgres on a Unix socket lets the gateway's user in, not root."""
    if os.geteuid():
        return
    path = sqlite.path_in(said.database)
    try:
        owner = (path.parent if path else Path(said.state)).stat().st_uid
    except OSError:
        owner = 0  # opening it says what is wrong
    if not path and not said.database_password_file:
        with suppress(KeyError):  # also before the service has made its directory
            owner = pwd.getpwnam(urlsplit(said.database).username or "").pw_uid
    if owner:
        become(owner)


def become(user: int) -> None:
    """Root becomes this account, with its groups, for good."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        os.setgroups([])
    else:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
    os.setuid(user)
