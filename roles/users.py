"""Who may call a gateway, as an inventory declares them, and what they are limited to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from roles.role import Settings

Count = Annotated[int, Field(ge=1, le=10**12)]


def _day(value: str) -> str:
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise ValueError(value)
        datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f'"{value}" is not a day, such as 2027-01-01') from None
    return value


Day = Annotated[str, AfterValidator(_day)]
"""`2027-01-01`"""


class UserLimits(Settings):
    """What a user may ask of a gateway. What is left out is unlimited."""

    requests: Count | None = None
    """Requests within any window."""

    tokens: Count | None = None
    """Tokens within any window, those of prompts and of answers together."""

    window_s: Annotated[int, Field(ge=1, le=31 * 24 * 3600)] = 60
    """The length of the window in seconds."""

    parallel: Count | None = None
    """Requests at once, waiting ones included."""


class User(Settings):
    """A user of the fleet's gateways. Paddock makes the key: `paddock keys show NAME --key` prints it."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The models that the user may ask for, by name or alias: `[qwen]`; by default all."""

    limits: UserLimits | None = None
    """The user's own limits; by default those that the gateway gives to everybody."""

    weight: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    """The user's share while requests wait: one of weight 2 gets twice as many tokens as one of weight 1."""

    expires: Annotated[Day, Field(examples=["2027-01-01"])] | None = None
    """The day on which the key stops to work, at its beginning in UTC: `2027-01-01`; by default never."""

    admin: bool = False
    """Allow the user to drain and resume a gateway, and to manage the keys that were made there."""

    @property
    def expires_at(self) -> float | None:
        """Seconds since 1970."""
        return datetime.fromisoformat(self.expires).replace(tzinfo=UTC).timestamp() if self.expires else None


COMMAND = (
    *("/opt/paddock/gateway/current/bin/python", "-m", "paddock_gateway"),
    *("--configuration", "/etc/paddock/gateway/gateway.json"),
)
"""What root runs on a gateway's host to see and change its users; the words behind it say what."""

UNIT = "paddock-gateway.service"
ADMIN_SOCKET = "/run/paddock-gateway/admin.sock"
DATABASE_UNIT = "paddock-postgres-gateway.service"
"""Where the database is PostgreSQL's: at each start it says anew who may what there."""


def user_key_name(user: str) -> str:
    """The name of the secret that holds a declared user's key."""
    return f"user.{user}"
