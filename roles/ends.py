"""Whether a site leads anywhere: to llama-servers that there are, that its host can reach, and that can stand in for each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from roles.references import GUARDED, Whole
from roles.role import address_of, port_of
from roles.server import Server, answering
from roles.upstream import FRONTS, Behind, OfFront, OfModel, Upstream, common_models, front, hosts_named, hosts_of, named, parts, shown
from roles.wording import did_you_mean, one_of, quoted

Told = tuple[tuple[str, ...], str]
"""The keys that lead to what is wrong from the upstream, and why it is."""


def leads_nowhere(upstream: Behind, proxy: str, fleet: Whole, every: bool = False) -> Iterator[Told]:
    """Why a site leads nowhere, or not to all that it names; nothing where it does.

    Where `every`, each server is asked for what it has, and need not stand in for the others.
    """
    if isinstance(upstream, OfFront):
        role, host = front(upstream)
        yield from (((role,), words) for words in _of_front(role, host, proxy, fleet))
        return
    told = list(_of_model(upstream, fleet) if isinstance(upstream, OfModel) else _of_names(upstream, fleet, every))
    if not told:
        servers = fleet.every_behind(upstream) if every else fleet.behind(upstream)
        words = next(_out_of_reach(servers, proxy), "")
        if not words and not every:
            words = next(_admin_out_of_reach(servers, proxy, fleet), "") or next(_apart(servers), "")
        told = [((), words)] if words else []
    yield from told


def _of_front(role: str, host: str, proxy: str, fleet: Whole) -> Iterator[str]:
    """Why there is no gateway there for a proxy, or no LiteLLM, or no Langfuse."""
    one = FRONTS[role]
    noun = one.removeprefix("a ")
    if host not in fleet.roles:
        yield fleet.no_host(host)
    elif role not in fleet.roles[host]:
        yield f"there is no {noun} on {host}: add the role {role} to it"
    elif host != proxy:
        yield f"the way to {one} is not encrypted, so it has to be on the reverse proxy's own host: add the role {role} to {proxy}"
    elif (settings := fleet.roles[host][role]) and not settings.front():
        yield f"the {noun} of {host} listens on network interfaces alone: add an address to its listen, such as 127.0.0.1:8001"


def _of_model(upstream: OfModel, fleet: Whole) -> Iterator[Told]:
    for found in fleet.no_model(upstream.model, ("model",)):
        yield found.keys, found.words
        return
    if not fleet.behind(upstream) and not fleet.malformed:
        yield ("model",), f"no llama_server serves {quoted(upstream.model)}: add it to the models of one, or to an instance"


def _of_names(upstream: Upstream, fleet: Whole, every: bool) -> Iterator[Told]:
    listed = not isinstance(upstream, str)
    for number, name in enumerate(named(upstream)):
        if words := _no_server(name, fleet, every):
            yield ((str(number),) if listed else ()), words


def _no_server(name: str, fleet: Whole, every: bool) -> str:
    """Why no llama-server answers for `HOST`, `HOST/INSTANCE`, `GROUP` or `GROUP/INSTANCE`; empty where one does."""
    where, instance = parts(name)
    if where not in fleet.roles and where not in fleet.groups:
        if not set(":.") & set(name):
            return fleet.no_host_or_group(where)
        known = [name for name, roles in fleet.roles.items() if "llama_server" in roles][:3]
        such = f", such as {one_of(known)}" if known else ""
        return f"{quoted(name)} is no name of a host: upstream takes one of this inventory{such}, and no address"
    hosts = [host for host in hosts_named(where, fleet.roles, fleet.groups) if "llama_server" in fleet.roles[host]]
    if not hosts and every and not instance and any(map(fleet.image_servers, hosts_named(where, fleet.roles, fleet.groups))):
        return ""
    if not hosts and where in fleet.roles:
        return f"host {quoted(where)} carries no llama_server that could answer"
    if not hosts:
        return f"no host of the group {quoted(where)} carries a llama_server that could answer"
    if any(fleet.roles[host]["llama_server"] is None for host in hosts):
        return ""
    instances = list(dict.fromkeys(each.group for host in hosts for each in fleet.servers(host) if each.group))
    if instance and instance not in instances:
        on = where if where in fleet.roles else f"the hosts of {where}"
        return f"llama_server on {on} has no instances {quoted(instance)}{did_you_mean(instance, instances)}"
    for host in hosts if not instance and not every else ():
        several = list(dict.fromkeys(each.group for each in fleet.servers(host) if each.group))
        if several and not answering(fleet.servers(host), ""):
            return f"llama_server on {host} has {' and '.join(several)}: choose one, such as {where}/{several[0]}"
    return ""


def _out_of_reach(servers: Sequence[Server], proxy: str) -> Iterator[str]:
    """Which of them a proxy cannot reach."""
    for each in servers:
        if each.host != proxy and ip_address(each.address).is_loopback:
            better = f"0.0.0.0:{each.port}"
            yield f"llama_server on {each.host} listens on {each.listen}, out of {proxy}'s reach: set for example {better}, {GUARDED}"


def _admin_out_of_reach(servers: Sequence[Server], proxy: str, fleet: Whole) -> Iterator[str]:
    """The admin endpoint where there is one behind the site and a proxy cannot reach it."""
    hosts = hosts_of(servers)
    for settings in fleet.roles[hosts[0]].values() if len(hosts) == 1 and hosts[0] != proxy else ():
        admin = settings.administration(hosts[0]) if settings else None
        if admin and ip_address(address_of(admin.endpoint)).is_loopback:
            better = f"0.0.0.0:{port_of(admin.endpoint)}"
            yield f"admin on {hosts[0]} listens on {admin.endpoint}, out of {proxy}'s reach: set for example {better}, {GUARDED}"


def _apart(servers: Sequence[Server]) -> Iterator[str]:
    """Why servers cannot stand in for each other: nobody knows which of them a request will get."""
    if not common_models(servers) and servers and all(each.models for each in servers):
        alike = {shown(each): each.models for each in servers}
        has = "; ".join(f"{name} has {', '.join(models[:3])}{', …' if len(models) > 3 else ''}" for name, models in list(alike.items())[:4])
        yield f"its servers have no model in common, and a request may get any of them: {has}"
    if len({each.api_key and each.key_name for each in servers}) > 1:
        keyed = next(each.host for each in servers if each.api_key)
        words = f"{keyed} asks for an API key that other hosts behind this site do not have, and a request may get any of them"
        yield f"{words}: leave api_key out there, or make it a site of its own"
