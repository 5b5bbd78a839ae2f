"""How the hosts of a deployment are doing, asked while it is connected: what `status` shows, and whether a reboot is due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from facts.condition import CONDITION_SH, Condition, condition, health_sh

if TYPE_CHECKING:
    from control.deployment.deployment import Deployment


def conditions(deployment: Deployment) -> dict[str, Condition]:
    """Host → how it is doing, of those that answer."""
    fleet = deployment.fleet
    asked = {name: {each.name: fleet.asked(each, "/health") for each in fleet.servers(name)} for name in deployment.work}
    said = deployment.run.said({name: f"{health_sh(of_host)}{CONDITION_SH}" for name, of_host in asked.items()})
    return {name: condition(lines) for name, lines in said.items()}


def reboots(machines: Mapping[str, Condition]) -> Iterator[str]:
    """`a reboot is due on halo: until then the graphics may take 63950 MiB, not 122880`"""
    yield from (f"a reboot is due on {name}: {machine.reboot}" for name, machine in machines.items() if machine.reboot)
