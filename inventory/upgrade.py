"""How an upgrade is judged: what a new release may be worse by than the one that serves, measured beside it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roles.role import Matches, Settings

Percent = Annotated[str, Matches(r"[0-9]{1,3}%", "is not a percentage: write a whole number, such as 15%")]


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
    """How upgrades are judged."""

    limits: UpgradeLimits = UpgradeLimits()
    """What a new release may be worse by."""

    rounds: Annotated[int, Field(ge=4, le=32)] = 8
    """How often both releases are asked for what is timed. Where that does not decide, they are asked again: up to eight times as often."""
