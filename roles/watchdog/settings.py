from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from roles.role import Account, Matches, RoleSettings

Line = Annotated[str, Matches(r"[^\x00-\x1f\x7f]+", "is no line of a shell")]
Word = Annotated[str, Matches(r"[^\x00-\x1f\x7f]*", "has a character in it that no command line carries")]


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0]:
        raise ValueError("names no program: say what to run, such as [/usr/bin/logger, lost], or leave it out")
    return words


Notify = Line | Annotated[tuple[Word, ...], AfterValidator(_program)]
"""What to run: a line for the shell, or a program and its arguments."""


class WatchdogSettings(RoleSettings):
    """A timer that looks at every llama-server of the host, asks it for a token where nothing else shows that it works, and restarts one
    that hangs: once. If that does not help, the watchdog's unit fails, `paddock status` shows why, and somebody is told.

    What moves is left alone, however long it takes: a prompt of many pages, a model that loads. No model is loaded or woken.
    """

    every_s: Annotated[int, Field(ge=10, le=3600)] = 60
    """Seconds from the end of one look to the next."""

    idle_every_s: Annotated[int, Field(ge=0, le=86400)] = 600
    """How often a server that nobody uses is asked for a token. In between its slots and its health are looked at, which costs nothing."""

    answer_s: Annotated[int, Field(ge=1, le=600)] = 30
    """How long one token may take before the server's slots are looked at for progress."""

    patience_s: Annotated[int, Field(ge=0, le=86400)] = 600
    """How long a server may compute without showing any progress in its slots: a batch of a prompt on a slow processor."""

    load_s: Annotated[int, Field(ge=1, le=86400)] = 1800
    """How long a server may take to read its model."""

    once_in_s: Annotated[int, Field(ge=1, le=604800)] = 3600
    """A server that hangs again so soon after it was restarted is not restarted again."""

    notify: Notify | None = None
    """What to run when a restart did not help: a line for the shell, or a program and its arguments. It finds PADDOCK_HOST, PADDOCK_SERVER,
    PADDOCK_UNIT and PADDOCK_FAULT (in words) in its environment, runs once a fault, and has a minute."""

    notify_as: Account = "nobody"
    """The account that it runs as."""
