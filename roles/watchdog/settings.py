from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from roles.role import LINE_ENDS, Account, Matches, RoleSettings

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

ShellLine = Annotated[str, Matches(rf"[^{LINE_ENDS}]+", "is not a shell command line")]
Word = Annotated[str, Matches(rf"[^{LINE_ENDS}]*", "contains a control character, which a command line cannot contain")]


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0]:
        raise ValueError("names no program: give one, such as [/usr/bin/logger, lost], or leave it out")
    return words


Notify = ShellLine | Annotated[tuple[Word, ...], AfterValidator(_program)]
"""A command: a shell command line, or a program with its arguments."""


class WatchdogSettings(RoleSettings):
    """A timer that checks every llama-server of the host and restarts one that hangs, once. If that does not help, the watchdog's unit
    fails, `paddock status` shows the reason, and `notify` runs.

    It asks a server for one token only if nothing else shows that the server works. It waits for a server that makes progress, however long
    that takes: a long prompt, a model that loads. It never loads or wakes a model.
    """

    rolls_back = True

    every_s: Annotated[int, Field(ge=10, le=3600)] = 60
    """Seconds from the end of one check to the next."""

    idle_every_s: Annotated[int, Field(ge=0, le=86400)] = 600
    """Seconds between token requests to an idle server. In between, the watchdog reads only its slots and health, which costs nothing."""

    look_s: Annotated[int, Field(ge=1, le=60)] = 10
    """Seconds that one question for a server's health or slots may take. The watchdog asks three times, with a pause of half as long."""

    answer_s: Annotated[int, Field(ge=1, le=600)] = 30
    """Seconds that one token may take before the watchdog checks the server's slots for progress."""

    patience_s: Annotated[int, Field(ge=0, le=86400)] = 600
    """Seconds that a server may compute without progress in its slots: a large prompt batch on a slow processor."""

    load_s: Annotated[int, Field(ge=1, le=86400)] = 1800
    """Seconds that a server may take to load its model."""

    once_in_s: Annotated[int, Field(ge=1, le=604800)] = 3600
    """Seconds after a restart in which a server that hangs again is not restarted again."""

    speed_every_s: Annotated[int, Field(ge=0, le=604800)] = 900
    """Seconds between two looks at how fast an idle server is, beside what it reached here (`upgrade: {floor: 50%}`). Three looks in a row
    below the floor are a fault. 0 looks never. A look costs a prompt of about 600 tokens and an answer of 32."""

    notify: Notify | None = None
    """The command to run if a restart did not help: a shell command line, or a program with its arguments. Its environment has
    PADDOCK_HOST, PADDOCK_SERVER, PADDOCK_UNIT and PADDOCK_FAULT (a message). It runs once per fault, for at most a minute."""

    notify_as: Account = "nobody"
    """The account that runs `notify`."""

    def rehearsed(self, here: Rehearsal) -> tuple[WatchdogSettings, list[str]]:
        moved, told = here.moved(self)
        if not self.notify:
            return moved, told
        return moved.model_copy(update={"notify": here.notify}), [*told, here.told_quietly("notify")]

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"llama_server": f"there is no llama_server on {host} to watch: remove watchdog from this host"}
