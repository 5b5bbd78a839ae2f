"""A parameter a line of the inventory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resources import Resource
from resources.sysctl import Sysctl
from roles.tuning.settings import TuningSettings

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge


def plan(host: Host, settings: TuningSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    for key, value in settings.sysctls.items():
        yield Sysctl(key, str(value))
