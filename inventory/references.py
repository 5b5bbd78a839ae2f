"""What only shows when hosts, models and clients are seen together: names that lead nowhere, and two that claim one thing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inventory.marks import Entry, Scalar, Sequence, child, mapping_at
from inventory.merge import Draft
from inventory.problems import Place, Problem, did_you_mean, quoted
from inventory.servers import answering, named_upstream, servers
from roles.admin.settings import AdminSettings
from roles.caddy.settings import CaddySettings
from roles.client.settings import ClientSettings
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_server.settings import LlamaServerSettings
from roles.role import RoleSettings, address_of, port_of

GUARDED = "and carry the role firewall, which keeps others away"


@dataclass(frozen=True)
class Carrier:
    """A host and its roles; one whose settings are malformed, which is told elsewhere, is None."""

    draft: Draft
    roles: Mapping[str, RoleSettings | None]

    @property
    def name(self) -> str:
        return self.draft.name

    @property
    def server(self) -> LlamaServerSettings | None:
        settings = self.roles.get("llama_server")
        return settings if isinstance(settings, LlamaServerSettings) else None

    @property
    def compiler(self) -> LlamaCppSettings | None:
        settings = self.roles.get("llama_cpp")
        return settings if isinstance(settings, LlamaCppSettings) else None

    @property
    def proxy(self) -> CaddySettings | None:
        settings = self.roles.get("caddy")
        return settings if isinstance(settings, CaddySettings) else None

    @property
    def admin(self) -> AdminSettings | None:
        settings = self.roles.get("admin")
        return settings if isinstance(settings, AdminSettings) else None

    @property
    def seats(self) -> ClientSettings | None:
        settings = self.roles.get("client")
        return settings if isinstance(settings, ClientSettings) else None

    def key(self, *path: str) -> Place:
        """The place of the last key that there is on a path."""
        return self._last(path).key

    def value(self, *path: str) -> Place:
        """The place of what stands there."""
        return self._last(path).node.place

    def _last(self, path: tuple[str, ...]) -> Entry:
        entry = Entry(self.draft.key, self.draft.node)
        for part in path:
            node = entry.node
            if isinstance(node, Sequence) and part.isdigit():
                entry = Entry(node.items[int(part)].place, node.items[int(part)])
            else:
                entry = child(node, part) or entry
        return entry


@dataclass(frozen=True)
class Whole:
    """All of a fleet, as far as it is well-formed. `models` and `clients` are as written."""

    carriers: Mapping[str, Carrier]
    models: Mapping[str, Entry]
    clients: Mapping[str, Entry]
    domain: str


def problems_between(whole: Whole) -> Iterator[Problem]:
    for carrier in whole.carriers.values():
        yield from _models(carrier, whole)
        yield from _companions(carrier, whole)
        yield from _builders(carrier, whole)
        yield from _sites(carrier, whole)
        yield from _seats(carrier, whole)
        yield from _ports(carrier)
    yield from _sites_of_two(whole)
    yield from _addresses(whole)


def _models(carrier: Carrier, whole: Whole) -> Iterator[Problem]:
    """A server names at least one model, each once, and the fleet has it."""
    if (server := carrier.server) is None:
        return
    at = ("roles", "llama_server")
    if not server.models and not server.instances:
        known = ", ".join(list(whole.models)[:8]) or "the inventory's models, of which there is none yet"
        yield Problem(carrier.key(*at, "models"), f"llama_server has nothing to serve: name at least one of {known}")
    for number, model in enumerate(server.models):
        place = carrier.value(*at, "models", str(number))
        if model not in whole.models:
            yield _no_such_model(model, place, whole)
        elif model in server.models[:number]:
            yield Problem(place, f"model {quoted(model)} is named twice")
    named: dict[str, str] = {}
    for each in servers(carrier.name, server):
        if (other := named.setdefault(each.name, each.group)) != each.group:
            words = f"one of {quoted(each.group)} would be called {each.name}, as one of {quoted(other)} is: rename one of the two"
            yield Problem(carrier.key(*at, "instances", each.group), words)
    for name, instance in server.instances.items():
        if instance.model not in whole.models:
            yield _no_such_model(instance.model, carrier.value(*at, "instances", name, "model"), whole)


def _no_such_model(model: str, place: Place, whole: Whole) -> Problem:
    return Problem(place, f"no model is called {quoted(model)}{did_you_mean(model, whole.models)}: describe it under models")


def _companions(carrier: Carrier, whole: Whole) -> Iterator[Problem]:
    """What serves or fetches models needs llama.cpp on the same host, and what serves files needs the role that lays them there."""
    for role in ("models", "llama_server"):
        if role in carrier.roles and "llama_cpp" not in carrier.roles:
            yield Problem(carrier.key("roles", role), f"{role} needs llama.cpp on the same host: add the role llama_cpp to {carrier.name}")
    if "watchdog" in carrier.roles and "llama_server" not in carrier.roles:
        words = f"there is no llama_server on {carrier.name} that it could look after: leave watchdog off this host"
        yield Problem(carrier.key("roles", "watchdog"), words)
    if "admin" in carrier.roles and "llama_server" not in carrier.roles:
        words = f"there is no llama_server on {carrier.name} that it could change: leave admin off this host"
        yield Problem(carrier.key("roles", "admin"), words)
    if (server := carrier.server) and "models" not in carrier.roles:
        served = (*server.models, *(each.model for each in server.instances.values()))
        laid = [each for each in served if each in whole.models and not mapping_at(whole.models[each].node, "source").get("path")]
        if laid:
            words = f"nothing puts the file of model {quoted(laid[0])} on the host: add the role models to {carrier.name}"
            yield Problem(carrier.key("roles", "llama_server"), words)


def _builders(carrier: Carrier, whole: Whole) -> Iterator[Problem]:
    """Who compiles for a host carries llama.cpp too, and where llama.cpp is only compiled there is nothing that could serve."""
    if (compiler := carrier.compiler) is None:
        return
    if builder := compiler.builder:
        place = carrier.value("roles", "llama_cpp", "builder")
        if builder not in whole.carriers:
            words = f"no host is called {quoted(builder)}{did_you_mean(builder, whole.carriers)}: it is a host of the fleet that compiles"
            yield Problem(place, words)
        elif "llama_cpp" not in whole.carriers[builder].roles:
            words = f"host {quoted(builder)} carries no llama_cpp: add the role to it, with `serve: false` if it only compiles for others"
            yield Problem(place, words)
    for role in ("models", "llama_server") if not compiler.serve else ():
        if role in carrier.roles:
            words = f"{carrier.name} only compiles (llama_cpp has `serve: false`): leave {role} out, or leave `serve` out"
            yield Problem(carrier.key("roles", role), words)


def _sites(carrier: Carrier, whole: Whole) -> Iterator[Problem]:
    """A site lies in the certificates' domain, leads to a server that can be reached, and lets in clients that the fleet has."""
    for name, site in carrier.proxy.sites.items() if carrier.proxy else ():
        path = ("roles", "caddy", "sites", name)
        if whole.domain and not site.acme and name != whole.domain and not name.endswith(f".{whole.domain}"):
            words = f"{quoted(name)} is not in the domain {whole.domain}, which the fleet's certificates are limited to: "
            words += "call it otherwise, or say under acme who gives it a certificate"
            yield Problem(carrier.key(*path), words)
        if words := _unreachable(site.upstream, carrier, whole) or _unreachable_admin(site.upstream, carrier, whole):
            yield Problem(carrier.value(*path, "upstream"), words)
        for number, client in enumerate(site.clients or ()):
            if client not in whole.clients:
                words = f"no client is called {quoted(client)}{did_you_mean(client, whole.clients)}: add it under clients"
                yield Problem(carrier.value(*path, "clients", str(number)), words)


def _seats(carrier: Carrier, whole: Whole) -> Iterator[Problem]:
    """An account's client is one of the fleet's, a site lets it in, and where several do it is said which of them the bridge leads to."""
    proxies = [each for each in whole.carriers.values() if "caddy" in each.roles]
    for account, seat in carrier.seats.accounts.items() if carrier.seats else ():
        path = ("roles", "client", "accounts", account)
        if seat.client not in whole.clients:
            words = f"no client is called {quoted(seat.client)}{did_you_mean(seat.client, whole.clients)}: add it under clients"
            yield Problem(carrier.value(*path, "client"), words)
            continue
        if any(each.proxy is None for each in proxies):  # told elsewhere
            continue
        sites = {name: site for each in proxies if each.proxy for name, site in each.proxy.sites.items()}
        admitting = [name for name, site in sites.items() if site.clients is None or seat.client in site.clients]
        if not admitting:
            words = (
                f"no site of the fleet lets {quoted(seat.client)} in: name it among the clients of one, or give {account} another client"
            )
            yield Problem(carrier.value(*path, "client"), words)
        elif seat.site and seat.site not in sites:
            words = f"no site is called {quoted(seat.site)}{did_you_mean(seat.site, sites)}"
            yield Problem(carrier.value(*path, "site"), words)
        elif seat.site and seat.site not in admitting:
            words = f"{seat.site} does not let {quoted(seat.client)} in, {' and '.join(admitting)} would"
            yield Problem(carrier.value(*path, "site"), words)
        elif seat.bridge and not seat.site and len(admitting) > 1:
            words = f"{quoted(seat.client)} is let in by {', '.join(admitting)}: say under site which of them the bridge leads to"
            yield Problem(carrier.key(*path, "bridge"), words)


def _unreachable(upstream: str, proxy: Carrier, whole: Whole) -> str:
    host, group = named_upstream(upstream)
    target = whole.carriers.get(host)
    if target is None:
        return f"no host is called {quoted(host)}{did_you_mean(host, whole.carriers)}"
    if "llama_server" not in target.roles:
        return f"host {quoted(host)} carries no llama_server that could answer"
    if target.server is None:
        return ""
    groups = target.server.instances
    if group and group not in groups:
        return f"llama_server on {host} has no instances {quoted(group)}{did_you_mean(group, groups)}"
    found = answering(tuple(servers(host, target.server)), group)
    if not found and groups:
        return f"llama_server on {host} has {' and '.join(groups)}: say which answers, such as {host}/{next(iter(groups))}"
    for each in found if target is not proxy else ():
        if ipaddress.ip_address(each.address).is_loopback:
            better = f"0.0.0.0:{each.port}"
            return (
                f"llama_server on {host} listens on {each.listen}, out of {proxy.name}'s reach: let it listen on {better}, say, {GUARDED}"
            )
    return ""


def _unreachable_admin(upstream: str, proxy: Carrier, whole: Whole) -> str:
    host, _ = named_upstream(upstream)
    admin = whole.carriers[host].admin
    if admin is None or host == proxy.name or not ipaddress.ip_address(address_of(admin.listen)).is_loopback:
        return ""
    better = f"0.0.0.0:{port_of(admin.listen)}"
    return f"admin on {host} listens on {admin.listen}, out of {proxy.name}'s reach: let it listen on {better}, say, {GUARDED}"


def _ports(carrier: Carrier) -> Iterator[Problem]:
    """Two that listen do not share a port, unless each has an address of its own."""
    taken: list[tuple[str, str]] = []
    for role, settings in carrier.roles.items():
        for endpoint in settings.endpoints() if settings else ():
            for other, theirs in taken:
                # A reverse proxy that is told addresses of both families opens a socket for each.
                apart = role == other == "caddy" and ("[" in endpoint) != ("[" in theirs)
                if not apart and _overlap(endpoint, theirs):
                    words = f"{role} cannot listen on {endpoint}: on {carrier.name}, {other} listens on {theirs}"
                    if role == other:
                        words = f"two of {role} on {carrier.name} would listen on {theirs}: give each a port of its own"
                    yield Problem(_listening(carrier, role, endpoint), words)
                    break
            taken.append((role, endpoint))


def _overlap(one: str, other: str) -> bool:
    addresses = {ipaddress.ip_address(address_of(one)), ipaddress.ip_address(address_of(other))}
    return port_of(one) == port_of(other) and (len(addresses) == 1 or any(address.is_unspecified for address in addresses))


def _listening(carrier: Carrier, role: str, endpoint: str) -> Place:
    """Where the inventory says that a role listens there; the role itself where that is its default, or follows from another port."""
    own = mapping_at(carrier.draft.node, "roles", role)
    groups = (
        mapping_at(carrier.draft.node, "roles", role, several, name)
        for several in ("instances", "accounts")
        for name in reversed(mapping_at(carrier.draft.node, "roles", role, several))
    )
    for entry in (entry for each in (own, *groups) for entry in each.values()):
        for node in entry.node.items if isinstance(entry.node, Sequence) else (entry.node,):
            if isinstance(node, Scalar) and node.value == endpoint:
                return node.place
    return carrier.key("roles", role)


def _sites_of_two(whole: Whole) -> Iterator[Problem]:
    """A name leads to one host."""
    first: dict[str, str] = {}
    for carrier in whole.carriers.values():
        for name in carrier.proxy.sites if carrier.proxy else ():
            if first.setdefault(name, carrier.name) != carrier.name:
                words = f"{quoted(name)} is a site of host {quoted(first[name])} already, and a name leads to one host"
                yield Problem(carrier.key("roles", "caddy", "sites", name), words)


def _addresses(whole: Whole) -> Iterator[Problem]:
    """Two hosts are two machines."""
    first: dict[str, str] = {}
    for carrier in whole.carriers.values():
        entry = child(carrier.draft.node, "address")
        if entry is None or not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
            continue
        address = _normalised(entry.node.value)
        other = first.setdefault(address, carrier.name)
        if other != carrier.name:
            yield Problem(entry.node.place, f"{address} is host {quoted(other)} already: {quoted(carrier.name)} needs its own")


def _normalised(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
