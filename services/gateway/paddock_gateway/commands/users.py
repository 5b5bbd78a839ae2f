"""create-user, list-users, disable-user, enable-user, delete-user."""

from __future__ import annotations

from argparse import Namespace

from paddock_gateway.commands.opened import with_users
from paddock_gateway.commands.words import limits, limits_line, moment, show, show_key, table
from paddock_gateway.contract import KeyRecord, nearest
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration
from paddock_gateway.store.users import UserRecord, UserTable

HEADINGS = ("USER", "MODELS", "LIMITS", "WEIGHT", "KEYS", "STATE")


def create(options: Namespace) -> int:
    allowed = limits(options.requests, options.tokens, options.window_s, options.parallel)
    expires = moment(options.expires)

    async def made(users: UserTable, said: Configuration) -> tuple[str, KeyRecord]:
        return await users.create(
            options.username,
            label=options.label,
            models=_models(options.models, said),
            limits=allowed,
            weight=options.weight,
            expires=expires,
            admin=options.admin,
            new=True,
        )

    show_key(options, *with_users(options, made))
    return 0


def show_all(options: Namespace) -> int:
    found = with_users(options, lambda users, _: users.users())
    show(
        options,
        found,
        table(HEADINGS, [_line(user) for user in found], "no users: `paddock-gateway create-user --username NAME` makes one"),
    )
    return 0


def disable(options: Namespace) -> int:
    with_users(options, lambda users, _: users.set_user_disabled(options.name, True))
    show(options, {"user": options.name, "disabled": True}, f"{options.name} is disabled: every key of it is refused")
    return 0


def enable(options: Namespace) -> int:
    with_users(options, lambda users, _: users.set_user_disabled(options.name, False))
    show(options, {"user": options.name, "disabled": False}, f"{options.name} is enabled")
    return 0


def delete(options: Namespace) -> int:
    with_users(options, lambda users, _: users.delete_user(options.name))
    show(options, {"user": options.name, "deleted": True}, f"{options.name} and its keys are deleted; its rows in the log stay")
    return 0


def _models(said: str | None, configuration: Configuration) -> tuple[str, ...] | None:
    """Raises Failure 400 for a name that no model has."""
    if said is None:
        return None
    known = [name for model, entry in configuration.models.items() for name in (model, *entry.aliases)]
    names = tuple(name.strip() for name in said.split(",") if name.strip())
    for name in names:
        if name not in known:
            raise Failure(400, f"--models: there is no model {name!r}.{nearest(name, known)}")
    return names


def _line(user: UserRecord) -> tuple[str, ...]:
    models = "all" if user.models is None else ", ".join(user.models) or "none"
    state = ", ".join(word for word, holds in (("declared", user.declared), ("disabled", user.disabled), ("admin", user.admin)) if holds)
    return (user.name, models, limits_line(user.limits), f"{user.weight:g}", str(user.keys), state or "active")
