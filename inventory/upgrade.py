"""How an upgrade is judged: what a new release may be worse by than the one that serves; and what no server may be slower than later."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roles.role import Matches, Settings

Percent = Annotated[str, Matches(r"[0-9]{1,3}%", "is not a percentage: write a whole number, such as 15%")]


Share = Annotated[str, Matches(r"[0-9]{1,2}%|100%", "is not a share: write a whole number up to 100%, such as 50%; 0% is none")]


class UpgradeLimits(Settings):
    """What a new release may be worse by than the one that serves, both measured on the canary in the same minutes."""

    slower: Percent = "15%"
    """Fewer tokens a second, in prompts, in generation and in embeddings."""

    first_token: Percent = "25%"
    """Later first token of a short prompt."""

    start: Percent = "50%"
    """Longer start of the server, longer load of a model, longer swap from one model to another. A second more never counts."""

    memory: Percent = "20%"
    """More memory, of the host or of its cards. 64 MiB more never count."""


class UpgradeSettings(Settings):
    """How upgrades are judged, and the floor below which no server's speed may fall."""

    limits: UpgradeLimits = UpgradeLimits()
    """What a new release may be worse by."""

    rounds: Annotated[int, Field(ge=4, le=32)] = 8
    """How often both releases are asked for what is timed. Where that does not decide, they are asked again: up to eight times as often."""

    floor: Share = "50%"
    """The share of the tokens a second that a server reached on this host, below which `paddock verify` fails and the watchdog acts. 0%
    measures nothing."""

    @property
    def floor_percent(self) -> int:
        return int(self.floor.rstrip("%"))
