"""An inventory as its lab runs it: the same names, roles, ports and certificates, on other machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inventory.fleet import Fleet, Host
from inventory.schema import ModelEntry
from lab.engine import LabError
from lab.lab_host import LabHost
from roles.rehearsal import NO_CARD, Rehearsal, on_the_processor
from roles.role import RoleSettings

LONGEST_NAME = 63


def overlay(fleet: Fleet, hosts: Mapping[str, LabHost]) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet with its lab hosts in place of its machines, and a sentence for each thing that was replaced.

    Raises LabError where a host of the fleet has no lab host that runs: it would be the real one that is deployed to.
    """
    if missing := [name for name in fleet.hosts if name not in hosts or not hosts[name].address]:
        raise LabError(f"no lab host runs for {', '.join(missing)}: `paddock lab up` makes the hosts of fleet {fleet.name}")
    told: list[str] = []
    left_out = frozenset((host.name, role) for host in fleet.hosts.values() for role in _left_out(host))
    moved = {name: _in_lab(host, hosts[name], fleet, left_out, told) for name, host in fleet.hosts.items()}
    models = {name: _tiny(name, model, told) for name, model in fleet.models.items()}
    networks = tuple(dict.fromkeys(hosts[name].network for name in fleet.hosts)) if fleet.networks else ()
    if networks != fleet.networks:
        told.append(f"networks: certificates are limited to {', '.join(networks)} in place of {', '.join(fleet.networks)}.")
    name = name_in_lab(fleet.name)
    told.append(f"fleet: its name is {name}; it has its own state, CA and secrets.")
    upgrade = fleet.upgrade
    if "floor" not in upgrade.model_fields_set:
        upgrade = upgrade.model_copy(update={"floor": "0%"})
        told.append("upgrade: no server is held to a floor of its speed: lab hosts share this machine.")
    update = {"name": name, "hosts": moved, "models": models, "networks": networks, "upgrade": upgrade}
    return fleet.model_copy(update=update), tuple(told)


def name_in_lab(fleet: str) -> str:
    """What a fleet's lab is called: it has a state of its own."""
    return f"{fleet[: LONGEST_NAME - len('-lab')]}-lab"


def _left_out(host: Host) -> Iterator[str]:
    """The roles that a lab has not."""
    for role, each in host.carried.items():
        if each.rehearsed(Rehearsal(host.name, role, host.address, ""))[0] is None:
            yield role


def _in_lab(host: Host, lab: LabHost, fleet: Fleet, left_out: frozenset[tuple[str, str]], told: list[str]) -> Host:
    where = lab.address if lab.port == 22 else f"{lab.address} port {lab.port}"
    told.append(f"{host.name}: the {lab.kind} {lab.container} at {where} replaces {host.address}.")
    if lab.listens:
        told.append(f"{host.name}: {lab.address} is reached from this machine only, not from other lab hosts.")
    settings: dict[str, RoleSettings | None] = {}
    lacking: list[str] = []
    servers = [server for name, role in left_out for server in fleet.hosts[name].carried[role].image_servers(name)]
    without = frozenset(model for server in servers for model in server.models)
    for role, each in host.carried.items():
        here = Rehearsal(host.name, role, lab.listens or lab.address, fleet.domain, without=without, left_out=left_out)
        settings[role], sentences = each.rehearsed(here)
        (told if settings[role] else lacking).extend(sentences)
    told += lacking
    return host.model_copy(
        update={
            "address": lab.address,
            "port": lab.port,
            "user": host.user,  # said, so that nobody's ~/.ssh/config says another
            "via": None,
            "ssh_key": str(lab.ssh_key),
            "host_key": lab.host_key,
            "roles": host.roles.model_copy(update=settings),
        }
    )


def _tiny(name: str, model: ModelEntry, told: list[str]) -> ModelEntry:
    preset = on_the_processor(model.preset)
    if gone := ", ".join(option for option in model.preset if option not in preset):
        told.append(f"model {name}: its preset is without {gone}: {NO_CARD}")
    if model.source == "tiny":
        return model.model_copy(update={"preset": preset})
    told.append(f"model {name}: a tiny model of random weights replaces its file; its answers mean nothing.")
    left_out = model.keys
    if left_out:
        told.append(f"model {name}: left out: {', '.join(left_out)}: a tiny model has no use for {'it' if len(left_out) == 1 else 'them'}.")
    defaults = {key: type(model).model_fields[key].default for key in left_out}
    return model.model_copy(update={"source": "tiny", "preset": preset, **defaults})
