"""Users, by pyinfra's own operation."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.operations import server

from control.deployment.work import Work
from deploys.applying import apply
from resources import Resource, User, of_kind
from resources.steps import Steps
from resources.user import SHELL


def made(wrong: Sequence[Resource], work: Work) -> None:
    """The users that are missing or not as declared."""
    for user in of_kind(wrong, User):
        account(f"user {user.name}", user)
        steps = Steps()
        user.land(steps, work)
        if steps:
            apply(name=f"user {user.name}: groups", steps=steps)


def account(name: str, user: User) -> None:
    server.user(
        name=name,
        user=user.name,
        home=user.home,
        shell=SHELL,
        groups=list(user.groups),
        append=not user.only,
        system=True,
        ensure_home=False,
    )
