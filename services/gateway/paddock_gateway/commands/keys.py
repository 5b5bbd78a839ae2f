"""keys create, list, show, revoke, rotate."""

from __future__ import annotations

from argparse import Namespace

from paddock_gateway.commands.opened import with_users
from paddock_gateway.commands.words import KEY_HEADINGS, key_line, moment, show, show_key, table
from paddock_gateway.contract import KeyRecord, nearest
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration
from paddock_gateway.store.users import UserTable


def create(options: Namespace) -> int:
    expires = moment(options.expires)

    async def made(users: UserTable, _: Configuration) -> tuple[str, KeyRecord]:
        names = [user.name for user in await users.users()]
        if options.user not in names:
            told = nearest(options.user, names) or " `create-user` makes one."
            raise Failure(404, f"There is no user {options.user!r}.{told}", "user_not_found")
        return await users.create(options.user, label=options.label, expires=expires)

    show_key(options, *with_users(options, made))
    return 0


def show_all(options: Namespace) -> int:
    found = with_users(options, lambda users, _: users.list(options.user))
    show(options, found, table(KEY_HEADINGS, [key_line(record) for record in found], "no keys"))
    return 0


def display(options: Namespace) -> int:
    record = with_users(options, lambda users, _: users.show(options.id))
    show(options, record, table(KEY_HEADINGS, [key_line(record)], ""))
    return 0


def revoke(options: Namespace) -> int:
    record = with_users(options, lambda users, _: users.revoke(options.id))
    show(options, record, f"{record.id} of {record.user} is revoked")
    return 0


def rotate(options: Namespace) -> int:
    show_key(options, *with_users(options, lambda users, _: users.rotate(options.id)))
    return 0
