"""An inventory as its lab runs it: the same names, roles, ports and certificates, on other machines."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from inventory.schema import Fleet, Host, ModelEntry
from lab.container import LabHost
from lab.engine import LabError
from roles.role import ENDPOINT, RoleSettings, Settings, address_of, port_of

LONGEST_NAME = 63


def overlay(fleet: Fleet, hosts: Mapping[str, LabHost]) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet with its lab hosts in place of its machines, and a sentence for each thing that was replaced.

    Raises LabError where a host of the fleet has no lab host that runs: it would be the real one that is deployed to.
    """
    if missing := [name for name in fleet.hosts if name not in hosts or not hosts[name].address]:
        raise LabError(f"no lab host runs for {', '.join(missing)}: `paddock lab up` makes the hosts of fleet {fleet.name}")
    told: list[str] = []
    moved = {name: _in_lab(host, hosts[name], told) for name, host in fleet.hosts.items()}
    models = {name: _tiny(name, model, told) for name, model in fleet.models.items()}
    networks = tuple(dict.fromkeys(hosts[name].network for name in fleet.hosts)) if fleet.networks else ()
    if networks != fleet.networks:
        told.append(f"networks: certificates are limited to {', '.join(networks)} in place of {', '.join(fleet.networks)}.")
    name = f"{fleet.name[: LONGEST_NAME - len('-lab')]}-lab"
    told.append(f"fleet: it is called {name}, with a state, a CA and secrets of its own.")
    return fleet.model_copy(update={"name": name, "hosts": moved, "models": models, "networks": networks}), tuple(told)


def _in_lab(host: Host, lab: LabHost, told: list[str]) -> Host:
    told.append(f"{host.name}: the container {lab.container} at {lab.address} stands in for {host.address}.")
    settings = {role: _moved(role, each, host, lab, told) for role, each in host.carried.items()}
    return host.model_copy(
        update={
            "address": lab.address,
            "port": 22,
            "ssh_key": str(lab.ssh_key),
            "host_key": lab.host_key,
            "roles": host.roles.model_copy(update=settings),
        }
    )


def _moved(role: str, settings: RoleSettings, host: Host, lab: LabHost, told: list[str]) -> RoleSettings:
    update: dict[str, Any] = {}
    for field, endpoint in _concrete_endpoints(settings):
        address = f"[{lab.address}]" if ":" in lab.address else lab.address
        update[field] = f"{address}:{port_of(endpoint)}"
        told.append(f"{host.name}: {role}.{field} is {update[field]} in place of {endpoint}.")
    if role == "base" and getattr(settings, "time", "elsewhere") != "elsewhere":
        update["time"] = "elsewhere"
        told.append(f"{host.name}: its clock is this machine's: base.time is elsewhere in place of {getattr(settings, 'time', '')}.")
    return settings.model_copy(update=update)


def _concrete_endpoints(settings: Settings) -> Iterator[tuple[str, str]]:
    """The fields that listen on one address of the real machine, which a lab host does not have."""
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if isinstance(value, str) and ENDPOINT.fullmatch(value):
            address = ipaddress.ip_address(address_of(value))
            if not address.is_loopback and not address.is_unspecified:
                yield field, value


def _tiny(name: str, model: ModelEntry, told: list[str]) -> ModelEntry:
    if model.source == "tiny":
        return model
    told.append(f"model {name}: a tiny model of random weights stands in for its file; nothing it says means anything.")
    return model.model_copy(update={"source": "tiny"})
