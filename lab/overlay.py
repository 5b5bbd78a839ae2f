"""An inventory as its lab runs it: the same names, roles, ports and certificates, on other machines."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from inventory.schema import Fleet, Host, ModelEntry
from lab.engine import LabError
from lab.lab_host import LabHost
from roles.caddy.settings import CaddySettings
from roles.client.settings import ClientSettings, Seat
from roles.llama_server.settings import InstanceSettings, LlamaServerSettings
from roles.role import ENDPOINT, RoleSettings, Settings, address_of, port_of

LONGEST_NAME = 63

NOTIFY = 'logger --tag paddock-notify "$PADDOCK_HOST $PADDOCK_SERVER $PADDOCK_UNIT, as $(id -un): $PADDOCK_FAULT"'
"""What a watchdog runs in a lab: nobody is to be woken by what happens there."""
QUIETLY = "tells the host's journal alone (journalctl -t paddock-notify), and nobody else."


def overlay(fleet: Fleet, hosts: Mapping[str, LabHost]) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet with its lab hosts in place of its machines, and a sentence for each thing that was replaced.

    Raises LabError where a host of the fleet has no lab host that runs: it would be the real one that is deployed to.
    """
    if missing := [name for name in fleet.hosts if name not in hosts or not hosts[name].address]:
        raise LabError(f"no lab host runs for {', '.join(missing)}: `paddock lab up` makes the hosts of fleet {fleet.name}")
    told: list[str] = []
    moved = {name: _in_lab(host, hosts[name], fleet.domain, told) for name, host in fleet.hosts.items()}
    models = {name: _tiny(name, model, told) for name, model in fleet.models.items()}
    networks = tuple(dict.fromkeys(hosts[name].network for name in fleet.hosts)) if fleet.networks else ()
    if networks != fleet.networks:
        told.append(f"networks: certificates are limited to {', '.join(networks)} in place of {', '.join(fleet.networks)}.")
    name = f"{fleet.name[: LONGEST_NAME - len('-lab')]}-lab"
    told.append(f"fleet: it is called {name}, with a state, a CA and secrets of its own.")
    return fleet.model_copy(update={"name": name, "hosts": moved, "models": models, "networks": networks}), tuple(told)


def _in_lab(host: Host, lab: LabHost, domain: str, told: list[str]) -> Host:
    where = lab.address if lab.port == 22 else f"{lab.address} port {lab.port}"
    told.append(f"{host.name}: the {lab.kind} {lab.container} at {where} stands in for {host.address}.")
    if lab.listens:
        told.append(f"{host.name}: {lab.address} is reached from this machine only, not from other lab hosts.")
    settings = {role: None if role == "gpu" else _moved(role, each, host, lab, domain, told) for role, each in host.carried.items()}
    if "gpu" in settings:
        told.append(f"{host.name}: the role gpu is left out: there is no card to drive.")
    return host.model_copy(
        update={
            "address": lab.address,
            "port": lab.port,
            "ssh_key": str(lab.ssh_key),
            "host_key": lab.host_key,
            "roles": host.roles.model_copy(update=settings),
        }
    )


def _moved(role: str, settings: RoleSettings, host: Host, lab: LabHost, domain: str, told: list[str]) -> RoleSettings:
    update: dict[str, Any] = {}
    for field, endpoint in _concrete_endpoints(settings):
        update[field] = _there(endpoint, lab)
        told.append(f"{host.name}: {role}.{field} is {update[field]} in place of {endpoint}.")
    if isinstance(settings, CaddySettings):
        update |= _proxy(settings, host, lab, domain, told)
    if role == "base" and getattr(settings, "time", "elsewhere") != "elsewhere":
        update["time"] = "elsewhere"
        told.append(f"{host.name}: its clock is this machine's: base.time is elsewhere in place of {getattr(settings, 'time', '')}.")
    if role == "llama_cpp":
        update |= _accelerator(dict(settings), host, told)
    if role == "watchdog" and getattr(settings, "notify", None):
        update["notify"] = NOTIFY
        told.append(f"{host.name}: watchdog.notify {QUIETLY}")
    if isinstance(settings, CaddySettings | ClientSettings) and settings.expiry.notify:
        update["expiry"] = settings.expiry.model_copy(update={"notify": NOTIFY})
        told.append(f"{host.name}: {role}.expiry.notify {QUIETLY}")
    if isinstance(settings, ClientSettings):
        update["accounts"] = {account: _seat(account, seat, host, told) for account, seat in settings.accounts.items()}
    if isinstance(settings, LlamaServerSettings):
        update["instances"] = {name: _instance(name, each, host, lab, told) for name, each in settings.instances.items()}
    return settings.model_copy(update=update)


def _proxy(settings: CaddySettings, host: Host, lab: LabHost, domain: str, told: list[str]) -> Mapping[str, Any]:
    """Where it listens; and a public authority cannot reach a lab, so that there the fleet's own CA signs, in the fleet's domain."""
    listen = tuple(dict.fromkeys(_there(each, lab) if _is_concrete(each) else each for each in settings.listen))
    if listen != settings.listen:
        told.append(f"{host.name}: caddy.listen is {', '.join(listen)} in place of {', '.join(settings.listen)}.")
    sites = dict(settings.sites)
    for name, site in settings.sites.items():
        if site.acme and not site.acme.root:
            sites[name] = site.model_copy(update={"acme": None})
            if name == domain or name.endswith(f".{domain}"):
                told.append(f"{host.name}: the certificate of {name} is the fleet's own, in place of a public authority's.")
            else:
                del sites[name]
                told.append(f"{host.name}: {name} is left out: only a public authority could sign for it.")
    return {"listen": listen, "sites": sites}


def _seat(account: str, seat: Seat, host: Host, told: list[str]) -> Seat:
    """The account is made, where the lab host does not have it, with a home where homes are."""
    if seat.home is None:
        return seat
    told.append(f"{host.name}: the home of {account} is where the lab has it, in place of {seat.home}.")
    return seat.model_copy(update={"home": None})


def _instance(name: str, instance: InstanceSettings, host: Host, lab: LabHost, told: list[str]) -> InstanceSettings:
    """As many servers on the same ports, on the processor."""
    where = f"{host.name}: llama_server.instances.{name}"
    update: dict[str, Any] = {}
    for field, endpoint in _concrete_endpoints(instance):
        update[field] = _there(endpoint, lab)
        told.append(f"{where}.{field} is {update[field]} in place of {endpoint}.")
    if instance.gpus:
        update |= {"gpus": (), "count": instance.many}
        told.append(f"{where}: {instance.many} as in the inventory, on no card.")
    return instance.model_copy(update=update)


def _accelerator(settings: Mapping[str, Any], host: Host, told: list[str]) -> Mapping[str, Any]:
    """What a lab host has of it: the processor, which Vulkan can run on too. A container sees the cards of the machine that it runs on,
    and can use none of them, so that nothing is left to detection."""
    accelerator, given = settings["accelerator"], settings["options"]
    if accelerator == "cpu" or not settings["serve"]:
        return {}
    if accelerator == "vulkan":
        if settings["vulkan_device"] != "any":
            told.append(f"{host.name}: Vulkan computes on the processor, by Mesa's driver: llama_cpp.vulkan_device is any.")
        return {"vulkan_device": "any"}
    told.append(f"{host.name}: there is no GPU, so llama_cpp.accelerator is cpu in place of {accelerator}.")
    options = {name: value for name, value in given.items() if "CUDA" not in name and "VULKAN" not in name}
    if dropped := ", ".join(name for name in given if name not in options):
        told.append(f"{host.name}: llama_cpp.options is without {dropped}, which a build for the processor does not have.")
    return {"accelerator": "cpu", "options": options}


def _there(endpoint: str, lab: LabHost) -> str:
    """The same port, on the lab host."""
    listens = lab.listens or lab.address
    return f"{f'[{listens}]' if ':' in listens else listens}:{port_of(endpoint)}"


def _concrete_endpoints(settings: Settings) -> Iterator[tuple[str, str]]:
    """The fields that listen on one address of the real machine, which a lab host does not have."""
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if isinstance(value, str) and ENDPOINT.fullmatch(value) and _is_concrete(value):
            yield field, value


def _is_concrete(endpoint: str) -> bool:
    address = ipaddress.ip_address(address_of(endpoint))
    return not address.is_loopback and not address.is_unspecified


def _tiny(name: str, model: ModelEntry, told: list[str]) -> ModelEntry:
    if model.source == "tiny":
        return model
    told.append(f"model {name}: a tiny model of random weights stands in for its file; nothing it says means anything.")
    return model.model_copy(update={"source": "tiny"})
