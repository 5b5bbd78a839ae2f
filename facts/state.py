"""The probe as a fact: the actual state of everything a plan names, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import FactBase

from facts.hardware import IDENTITY_SH
from resources import Resource, probe
from resources.probe import Actual, actual_of


def probe_script(resources: Sequence[Resource], *, deep: bool = False) -> str:
    """The script that reads the state of these resources, and what changes with the machine."""
    return probe.probe_script(resources, IDENTITY_SH, deep=deep)


class State(FactBase[Actual]):
    """An `Actual`. To be asked with `_stdin=probe_script(resources)`."""

    @staticmethod
    def default() -> Actual:
        return Actual()

    def command(self, resources: Sequence[Resource]) -> str:
        self.asked = tuple(resources)
        return "sh -s"

    def process(self, output: list[str]) -> Actual:
        return actual_of(output, self.asked)
