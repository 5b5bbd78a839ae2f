"""What Prometheus reads, out of the inventory; what it cannot read, and what it leaves alone, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from inventory.errors import InventoryError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from roles.metrics import Metrics
from roles.preset import is_on, sleep_s
from roles.prometheus.settings import PrometheusSettings
from roles.role import address_of, is_address, is_loopback, port_of, with_address
from roles.server import Server


@dataclass(frozen=True)
class Target:
    """A page of metrics: `ADDRESS:PORT`, and the labels of all that is read there. `key_name` is the secret that it asks for."""

    job: str
    host: str
    service: str
    at: str
    model: str = ""
    key_name: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {"job": self.job, "host": self.host, "service": self.service, **({"model": self.model} if self.model else {})}


@dataclass
class Watched:
    """`faults` are lines for who wrote the inventory. `left_alone` has a reason by service, `rig/chat`."""

    targets: list[Target] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)


def targets(host: Host, settings: PrometheusSettings, fleet: Fleet, knowledge: Knowledge) -> tuple[Target, ...]:
    """Raises InventoryError, a line for each that cannot be read."""
    found = watched(host, settings, fleet, knowledge)
    if found.faults:
        raise InventoryError(found.faults)
    return tuple(found.targets)


def watched(host: Host, settings: PrometheusSettings, fleet: Fleet, knowledge: Knowledge) -> Watched:
    found = Watched()
    own = fleet.reach(settings.listen, f"hosts.{host.name}.roles.prometheus.listen", host.name, host.name)
    found.targets.append(Target("prometheus", host.name, "prometheus", own))
    for other in fleet.hosts.values():
        if not settings.watches(other.name):
            continue
        for page in fleet.metrics(other.name):
            if f"{other.name}/{page.service}" not in settings.leave_out:
                _add(found, page, other, host, fleet, knowledge)
        for server in fleet.servers(other.name):
            if (name := f"{other.name}/{server.name}") in settings.leave_out:
                continue
            if why := _left_alone(server, host.name, fleet):
                found.left_alone[name] = why
            else:
                key_name = server.key_name if server.api_key else ""
                at = fleet.endpoint(server, host.name)
                found.targets.append(Target("llama_server", other.name, server.name, at, server.models[0], key_name))
    found.faults += [words for each in found.targets for words in _outside(each, host, fleet)]
    return found


def _add(found: Watched, page: Metrics, other: Host, host: Host, fleet: Fleet, knowledge: Knowledge) -> None:
    """A page at the address at which its own host reads it, or another."""
    name, key = f"{other.name}/{page.service}", f"hosts.{other.name}.{page.key}"
    said = page.home if other.name == host.name else page.listen
    if not said or (other.name != host.name and is_loopback(with_address(said))):
        where = f"it listens on loopback, {said}" if said else "it shows them to nobody without a key"
        example = f"0.0.0.0:{port_of(said)}" if said else "0.0.0.0:9101" if other.name != host.name else "127.0.0.1:9101"
        words = f"{name} cannot be scraped: {where}: set {key}, for example {example}, or leave_out: [{name}]"
        found.faults.append(f"hosts.{host.name}.roles.prometheus: {words}")
        return
    listen = knowledge.bound(said, host.name, key) if other.name == host.name else with_address(said)
    found.targets.append(Target(page.service, other.name, page.service, fleet.reach(listen, key, other.name, host.name)))


def _left_alone(server: Server, reader: str, fleet: Fleet) -> str:
    """Why a llama-server is not asked; empty where it is."""
    if server.kind == "router":
        return "a reading could wake a model of a router"
    preset = fleet.preset(server, server.models[0])
    try:
        sleeps = sleep_s(preset) >= 0
    except ValueError:
        sleeps = True
    if sleeps:
        return "a reading would keep its model from falling asleep"
    if not is_on(preset.get("metrics", True)):
        return "its preset has `metrics` off"
    if server.host != reader and is_loopback(server.listen):
        return f"only {server.host} itself reaches it"
    if server.host != reader and server.encrypted:
        return "other hosts reach it by an encrypted tunnel alone, which Prometheus has none of"
    return ""


def _outside(target: Target, host: Host, fleet: Fleet) -> Iterator[str]:
    """Metrics are clear text: they go through the fleet's networks only, where it has any."""
    address = address_of(target.at)
    if target.host == host.name or not fleet.networks or not is_address(address):
        return
    if not any(ip_address(address) in ip_network(each) for each in fleet.networks):
        name = f"{target.host}/{target.service}"
        words = f"{name} cannot be scraped: {address} is in none of the fleet's networks, and metrics are clear text"
        yield f"hosts.{host.name}.roles.prometheus: {words}: name its network under networks, or leave_out: [{name}]"


def remarks(found: Watched) -> Iterator[str]:
    """What is left alone, a line a reason."""
    by_reason: dict[str, list[str]] = {}
    for name, why in found.left_alone.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        yield f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not watched: {why}"
