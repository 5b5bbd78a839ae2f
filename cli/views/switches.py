"""A switch that waits on a host for its confirmation, and one that was taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cli.views.colour import coloured
from resources.guard import taken_back_words, waiting_words
from resources.probe import Actual


def switches(actual: Actual) -> Iterator[str]:
    if actual.waiting:
        yield coloured(f"  {waiting_words(actual.waiting, datetime.now())}", "~")
    if actual.taken_back:
        yield coloured(f"  {taken_back_words(actual.taken_back)}", "-")


def as_data(actual: Actual) -> Mapping[str, Any]:
    """For `--json`: `waiting` and `taken_back`, where there is such a switch."""
    found = {"waiting": actual.waiting, "taken_back": actual.taken_back}
    return {name: asdict(switch) for name, switch in found.items() if switch}
