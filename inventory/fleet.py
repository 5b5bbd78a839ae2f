"""The fleet: its hosts, each with what its groups and the defaults add, and what is asked about all of them together.

What roles have a part in they say themselves (`roles.role.RoleSettings`): nothing here knows one by name.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, TypeVar

from inventory.errors import InventoryError
from inventory.model_components import Component, named_by_options
from inventory.model_sources import ModelSource
from inventory.schema import SETTLE_S, Client, HostEntry, ModelEntry, ModelName, Network
from inventory.upgrade import UpgradeSettings
from roles import ROLES
from roles.metrics import Metrics
from roles.preset import Preset, layered
from roles.role import Domain, Name, RoleSettings, Settings, address_of, is_address, is_loopback, loopback_of, port_of
from roles.server import (
    MODEL_DIRECTORY,
    Administration,
    Entrance,
    ImageServer,
    Server,
    Site,
    Tunnelled,
    Worker,
    tunnel_socket,
)
from roles.tracing import Tracing
from roles.upstream import Behind, OfFront, Upstream, as_written, front, hosts_of, image_servers_behind, servers_behind
from roles.users import User

S = TypeVar("S", bound=RoleSettings)


class Memoized(Settings):
    """Settings that keep what was computed from them. A copy computes it again, for its values may differ."""

    def __copy__(self) -> Self:
        return self._without_computed(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._without_computed(super().__deepcopy__(memo))

    @classmethod
    def _without_computed(cls, copied: Self) -> Self:
        for name in copied.__dict__.keys() - cls.model_fields.keys():
            del copied.__dict__[name]
        return copied


class Host(HostEntry, Memoized):
    """One machine, with what its groups and the defaults add."""

    name: Name
    groups: tuple[str, ...] = ()

    @cached_property
    def carried(self) -> Mapping[str, RoleSettings]:
        """The host's roles in deployment order, each with its settings."""
        found = ((role, getattr(self.roles, role)) for role in ROLES)
        return {role: settings for role, settings in found if settings is not None}

    @property
    def brings_images(self) -> bool:
        """Whether the images of its stacks come from the control machine."""
        return any(each.brings_images() for each in self.carried.values())

    @property
    def becomes_root(self) -> bool:
        return self.sudo if self.sudo is not None else self.user != "root"


class Fleet(Memoized):
    """All that one inventory describes, with ranges expanded, groups applied and references resolved."""

    name: Name
    domain: Domain
    networks: tuple[Network, ...] = ()
    settle: int = SETTLE_S
    """Seconds."""
    upgrade: UpgradeSettings = UpgradeSettings()
    hosts: dict[Name, Host]
    models: dict[ModelName, ModelEntry] = {}
    clients: dict[Name, Client] = {}
    users: dict[Name, User] = {}

    def hosts_with(self, role: str) -> tuple[Host, ...]:
        return self._hosts_by_role.get(role, ())

    @cached_property
    def _hosts_by_role(self) -> Mapping[str, tuple[Host, ...]]:
        return {role: tuple(host for host in self.hosts.values() if role in host.carried) for role in ROLES}

    def role(self, host: str, role: str, kind: type[S]) -> S | None:
        """The settings of a role on a host, or None where the host does not carry it."""
        settings = self.hosts[host].carried.get(role)
        return settings if isinstance(settings, kind) else None

    def limited(self, only: frozenset[str]) -> Iterator[Host]:
        """The hosts that a `--limit` of host, role and group names leaves; all of them where it is empty."""
        for host in self.hosts.values():
            if not only or host.name in only or only & set(host.groups) or only & set(host.carried):
                yield host

    @property
    def admits_users(self) -> bool:
        """Whether users' keys open something."""
        return any(each.admits_users for host in self.hosts.values() for each in host.carried.values())

    @cached_property
    def gateways(self) -> tuple[str, ...]:
        """The hosts whose gateways keep users who are made at run time."""
        return tuple(name for hosts in self.user_databases.values() for name in hosts)

    @cached_property
    def user_databases(self) -> Mapping[str, tuple[str, ...]]:
        """What keeps the users who are made at run time: the gateways' hosts by the database that they share."""
        found: dict[str, list[str]] = {}
        for host in self.hosts.values():
            for each in host.carried.values():
                if each.admits_users and (database := each.user_database(host.name)):
                    found.setdefault(database, []).append(host.name)
        return {database: tuple(hosts) for database, hosts in found.items()}

    def servers(self, host: str) -> tuple[Server, ...]:
        """The host's llama-servers: its router, and its instances of fixed models."""
        if host not in self._servers:
            carried = self.hosts[host].carried.values()
            first_card = next((first for each in carried if (first := each.first_card()) is not None), 0)
            self._servers[host] = tuple(server for each in carried for server in each.servers(host, first_card))
        return self._servers[host]

    @cached_property
    def _servers(self) -> dict[str, tuple[Server, ...]]:
        return {}

    def worker(self, host: str) -> Worker | None:
        """What computes on the host for llama-servers of others."""
        return self._workers.get(host)

    @cached_property
    def _workers(self) -> Mapping[str, Worker]:
        said = (each.worker(host.name) for host in self.hosts.values() for each in host.carried.values())
        return {worker.host: worker for worker in said if worker}

    def workers_of(self, server: Server) -> tuple[Worker, ...]:
        """What computes for a llama-server, in the order in which it names them. Raises InventoryError for a host that does not."""
        for host in server.workers:
            if host not in self._workers:
                raise InventoryError([f"hosts.{server.host}.{'.'.join(server.keys)}.workers: {host} has no rpc_worker: add the role to it"])
        return tuple(self._workers[host] for host in server.workers)

    def metrics(self, host: str) -> tuple[Metrics, ...]:
        """Where the host's services show metrics, but for its llama-servers."""
        return tuple(found for each in self.hosts[host].carried.values() for found in each.shown_metrics(host))

    def watchers(self, host: str) -> tuple[str, ...]:
        """The other hosts that read the metrics of this one."""
        return tuple(name for name, each in self._watching if name != host and each.watches(host))

    @cached_property
    def _watching(self) -> tuple[tuple[str, RoleSettings], ...]:
        kinds = RoleSettings.watches
        return tuple((host.name, each) for host in self.hosts.values() for each in host.carried.values() if type(each).watches != kinds)

    def servers_of_worker(self, host: str) -> tuple[Server, ...]:
        """The llama-servers that the host computes for."""
        return self._servers_by_worker.get(host, ())

    @cached_property
    def _servers_by_worker(self) -> Mapping[str, tuple[Server, ...]]:
        found: dict[str, list[Server]] = {}
        for server in (server for host in self.hosts if self._workers for server in self.servers(host)):
            for worker in server.workers:
                found.setdefault(worker, []).append(server)
        return {worker: tuple(servers) for worker, servers in found.items()}

    def is_rpc_end(self, host: str) -> bool:
        """Whether the host computes for others, or others compute for it."""
        return host in self._workers or any(server.workers for server in self.servers(host))

    @cached_property
    def tunnel_ends(self) -> frozenset[str]:
        """The hosts that show each other a certificate of their own."""
        workers = [each.host for each in self._workers.values() if each.encrypted]
        ends = {*workers, *(server.host for worker in workers for server in self.servers_of_worker(worker))}
        for host, callers in self._callers.items():
            if self.tunnels_to(host):
                ends |= {host, *callers}
        return frozenset(ends)

    def callers_of(self, server: Server) -> tuple[str, ...]:
        """The other hosts whose reverse proxies and gateways pass requests on to this server."""
        return self._callers_of.get((server.host, server.name), ())

    @cached_property
    def _callers_of(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        found: dict[tuple[str, str], dict[str, None]] = {}
        for caller, servers in (*self._proxied, *self._asked):
            for server in servers:
                if server.host != caller:
                    found.setdefault((server.host, server.name), {})[caller] = None
        return {server: tuple(callers) for server, callers in found.items()}

    @cached_property
    def _proxied(self) -> tuple[tuple[str, tuple[Server, ...]], ...]:
        """The hosts with a site of a reverse proxy, each with the llama-servers behind it."""
        return tuple((entrance.host, self.behind(entrance.site.upstream)) for entrance in self._entrances)

    @cached_property
    def _asked(self) -> tuple[tuple[str, tuple[Server, ...]], ...]:
        """The hosts with a role that asks llama-servers for its own callers, each with these."""
        carried = ((host.name, each) for host in self.hosts.values() for each in host.carried.values())
        return tuple((host, self.every_behind(upstream)) for host, each in carried for upstream in each.asks(host))

    @property
    def asking(self) -> frozenset[str]:
        """The hosts with a role that asks llama-servers for its own callers."""
        return frozenset(host for host, _ in self._asked)

    def is_shared(self, server: Server) -> bool:
        """Whether it is asked for callers who are strangers to each other, so that it must keep apart what they say."""
        return (server.host, server.name) in self._shared

    @cached_property
    def _shared(self) -> frozenset[tuple[str, str]]:
        return frozenset((server.host, server.name) for _, servers in self._asked for server in servers)

    def is_tunnelled(self, server: Server) -> bool:
        """Whether other hosts call it through an encrypted tunnel. An account's own services cannot have one."""
        return server.encrypted and bool(server.socket) and not is_loopback(server.listen) and bool(self.callers_of(server))

    def tunnels_to(self, host: str) -> tuple[Tunnelled, ...]:
        """What other hosts call on this one through a tunnel. Raises InventoryError where nobody knows at which address."""
        found = [
            Tunnelled(host, each.listen, self.public(each.listen, self._listen_key(each), host), each.socket, self.callers_of(each))
            for each in self.servers(host)
            if self.is_tunnelled(each)
        ]
        role, there = self._administration(host) or ("", None)
        if there and there.encrypted and not is_loopback(there.endpoint) and (callers := self.callers_of_admin(host)):
            at = self.public(there.endpoint, f"hosts.{host}.roles.{role}.listen", host)
            found.append(Tunnelled(host, there.endpoint, at, there.socket, callers))
        return tuple(found)

    def public(self, listen: str, where: str, host: str) -> str:
        """`ADDRESS:PORT` at which other hosts reach what listens so, where it has loopback for itself.

        Raises InventoryError where it listens everywhere, and its host has a name for an address.
        """
        address = ipaddress.ip_address(address_of(listen))
        if not address.is_unspecified:
            return listen
        at = self.hosts[host].address
        if not is_address(at):
            better = f"an address of its own, such as 192.0.2.10:{port_of(listen)}, or encrypted: false"
            raise InventoryError([f"{where}: {listen} is to be encrypted, and the address of {host}, {at}, is a name: write {better}"])
        return f"[{at}]:{port_of(listen)}" if ":" in at else f"{at}:{port_of(listen)}"

    def served_models(self, host: str) -> dict[str, ModelEntry]:
        """The models that the host's llama-servers name, by name and in their order; empty where it serves none."""
        return {name: self.models[name] for server in self.servers(host) for name in server.models}

    def presets(self, host: str) -> tuple[Preset, ...]:
        """What the host's llama-servers serve each of their models with, as far as the inventory says it."""
        return tuple(self.preset(server, name) for server in self.servers(host) for name in server.models)

    def own_preset(self, host: str, model: str) -> Preset:
        """What the inventory says of a model itself, with the files on the host that options name."""
        entry = self.models[model]
        if not entry.keys:
            return entry.preset
        _, *others = entry.components(model)
        return {**entry.preset, **named_by_options({each: self.paths(host, each)[0] for each in others})}

    def preset(self, server: Server, model: str) -> Preset:
        """What the inventory says of a model on a server. A router's goes behind the model's own, an instance's before it."""
        own = self.own_preset(server.host, model)
        return layered(server.preset, own) if server.kind == "router" else layered(server.shared, own, server.preset)

    def model_path(self, host: str, model: str) -> str:
        """Where the model's own file lies on the host: of several the first, which llama-server is given."""
        return self.paths(host, self.models[model].own(model))[0]

    def model_paths(self, host: str, model: str) -> tuple[str, ...]:
        """Where all files of the model lie on the host, with those that options name."""
        return tuple(path for each in self.models[model].components(model) for path in self.paths(host, each))

    def paths(self, host: str, component: Component) -> tuple[str, ...]:
        """Where the files of a model's component lie on the host."""
        if isinstance(component.source, ModelSource) and component.source.on_host:
            return component.source.named
        said = (each.model_directory() for each in self.hosts[host].carried.values())
        directory = next((each for each in said if each), MODEL_DIRECTORY)
        return tuple(f"{directory}/{name}" for name in component.laid_as)

    def upstreams(self, upstream: Behind, seen_from: str, by_socket: bool = False) -> tuple[str, ...]:
        """`ADDRESS:PORT` of each llama-server behind a site, for a caller on `seen_from`; `unix//PATH` of one there, `by_socket`, where it
        has one. Of a site before a gateway, or before LiteLLM, it is that one's.

        Raises InventoryError where there is none, or where that host cannot reach it.
        """
        if isinstance(upstream, OfFront):
            return (self.front(*front(upstream)),)
        if not (found := self.behind(upstream)):
            raise InventoryError([f"hosts.{seen_from}: it proxies to {as_written(upstream)}, which has no llama-server"])
        sockets = [self.socket_to(server, seen_from, by_socket) for server in found]
        return tuple(
            f"unix/{socket}" if socket else self.endpoint(server, seen_from) for server, socket in zip(found, sockets, strict=True)
        )

    def socket_to(self, server: Server, seen_from: str, by_socket: bool = True, sockets: str = "hop") -> str:
        """Where a caller on `seen_from` reaches a llama-server by a socket: by its own, or by one of the tunnel whose `sockets` are called
        so. Empty where it has an address alone. Raises InventoryError where that host cannot reach it."""
        if server.host == seen_from:
            return server.socket if by_socket else ""
        self.endpoint(server, seen_from)  # which it has to have all the same
        return tunnel_socket(server.host, server.port, sockets) if self.is_tunnelled(server) else ""

    def behind(self, upstream: Behind) -> tuple[Server, ...]:
        """The llama-servers that a site leads to."""
        if upstream not in self._behind:
            self._behind[upstream] = servers_behind(upstream, self.hosts, self._members, self.servers)
        return self._behind[upstream]

    @cached_property
    def _behind(self) -> dict[Behind, tuple[Server, ...]]:
        return {}

    def front(self, role: str, host: str) -> str:
        """`ADDRESS:PORT` of a host's gateway, LiteLLM or Langfuse, for a caller there. Raises InventoryError where it has none."""
        if (settings := self.hosts[host].carried.get(role)) and (found := settings.front()):
            return found
        raise InventoryError([f"hosts.{host}: it has no {role} that listens on an address: give one to listen of roles.{role}"])

    def traced_at(self, host: str, seen_from: str) -> tuple[str, Tracing]:
        """The URL at which a caller on `seen_from` reaches what takes traces on a host, and what that says of itself. Raises InventoryError
        where there is none, or where it cannot be reached."""
        for role, each in self.hosts[host].carried.items():
            if found := each.tracing(host):
                return found.url or f"http://{self.reach(found.listen, f'hosts.{host}.roles.{role}.listen', host, seen_from)}", found
        raise InventoryError([f"hosts.{host}: it takes no traces: add the role langfuse to it"])

    def every_behind(self, upstream: Upstream) -> tuple[Server, ...]:
        """The llama-servers that a name stands for where a host's stands for all that it has."""
        return servers_behind(upstream, self.hosts, self._members, self.servers, every=True)

    def image_servers_behind(self, upstream: Upstream) -> tuple[ImageServer, ...]:
        """What makes images on the hosts that a name stands for."""
        return image_servers_behind(upstream, self.hosts, self._members, self.image_servers)

    def image_servers(self, host: str) -> tuple[ImageServer, ...]:
        return tuple(server for each in self.hosts[host].carried.values() for server in each.image_servers(host))

    def callers_of_images(self, host: str) -> tuple[str, ...]:
        """The other hosts whose gateways ask this one for images."""
        carried = ((other.name, each) for other in self.hosts.values() for each in other.carried.values() if other.name != host)
        asking = (name for name, each in carried for upstream in each.asks(name) if self._makes_images(host, upstream))
        return tuple(dict.fromkeys(asking))

    def _makes_images(self, host: str, upstream: Upstream) -> bool:
        return any(each.host == host for each in self.image_servers_behind(upstream))

    @cached_property
    def _members(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for host in self.hosts.values():
            for group in host.groups:
                found.setdefault(group, []).append(host.name)
        return {group: tuple(hosts) for group, hosts in found.items()}

    def hosts_behind(self, site: Site) -> tuple[str, ...]:
        """The hosts whose llama-servers a site leads to."""
        return hosts_of(self.behind(site.upstream))

    def endpoint(self, server: Server, seen_from: str) -> str:
        """`ADDRESS:PORT` of a llama-server for a caller on `seen_from`. Raises InventoryError where that cannot reach it."""
        if server.host == seen_from and self.is_tunnelled(server):
            return loopback_of(server.listen)
        return self.reach(server.listen, self._listen_key(server), server.host, seen_from)

    @staticmethod
    def _listen_key(server: Server) -> str:
        return f"hosts.{server.host}.{'.'.join(server.keys)}.listen"

    def asked(self, server: Server, path: str) -> str:
        """What curl is to be given on the server's own host, so that it asks there: words of a shell."""
        if server.socket:
            return f"--unix-socket {shlex.quote(server.socket)} {shlex.quote(f'http://localhost{path}')}"
        return shlex.quote(f"http://{self.endpoint(server, server.host)}{path}")

    def administered(self, site: Site) -> str:
        """The host whose admin endpoint a site leads to; empty where it has none, or where the site leads to several hosts."""
        hosts = self.hosts_behind(site)
        return hosts[0] if len(hosts) == 1 and self._administration(hosts[0]) else ""

    def callers_of_admin(self, host: str) -> tuple[str, ...]:
        """The other hosts whose reverse proxies pass requests on to the admin endpoint of this one."""
        return self._callers_of_admin.get(host, ())

    @cached_property
    def _callers_of_admin(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, dict[str, None]] = {}
        for entrance in self._entrances:
            if (behind := self.administered(entrance.site)) not in ("", entrance.host):
                found.setdefault(behind, {})[entrance.host] = None
        return {behind: tuple(callers) for behind, callers in found.items()}

    def administration(self, host: str, seen_from: str) -> Administration | None:
        """The admin endpoint of a host, for a caller on `seen_from`; None where it has none. Raises InventoryError where that cannot
        reach it."""
        if not (there := self._administration(host)):
            return None
        role, found = there
        endpoint = self.reach(found.endpoint, f"hosts.{host}.roles.{role}.listen", host, seen_from)
        if host == seen_from:
            return replace(found, endpoint=endpoint)
        return replace(found, endpoint=endpoint, socket=tunnel_socket(host, port_of(found.endpoint)) if found.encrypted else "")

    def _administration(self, host: str) -> tuple[str, Administration] | None:
        """The role that has the endpoint, and the endpoint as its own host sees it."""
        carried = self.hosts[host].carried.items()
        return next(((role, found) for role, settings in carried if (found := settings.administration(host))), None)

    def reach(self, listen: str, where: str, host: str, seen_from: str) -> str:
        """`ADDRESS:PORT` of what listens so on a host, as the key `where` of the inventory says, for a caller on another.

        Raises InventoryError where that cannot reach it.
        """
        address, port = ipaddress.ip_address(address_of(listen)), port_of(listen)
        if address.is_loopback and host != seen_from:
            words = f"{where}: {listen} cannot be reached from {seen_from}"
            raise InventoryError([f"{words}: use an address of its network, such as 0.0.0.0:{port}"])
        reach = str(address)
        if address.is_unspecified:
            loopback = "127.0.0.1" if address.version == 4 else "::1"
            reach = self.hosts[host].address if host != seen_from else loopback
        return f"[{reach}]:{port}" if ":" in reach else f"{reach}:{port}"

    def entrances(self, client: str | None = None) -> tuple[Entrance, ...]:
        """Every site of the fleet's reverse proxies; with a `client` those that let it in."""
        return self._entrances if client is None else self._entrances_by_client.get(client, ())

    @cached_property
    def _entrances(self) -> tuple[Entrance, ...]:
        clients = tuple(self.clients)
        carried = ((host, each) for host in self.hosts.values() for each in host.carried.values())
        return tuple(entrance for host, each in carried for entrance in each.entrances(host.name, host.address, clients))

    @cached_property
    def _entrances_by_client(self) -> Mapping[str, tuple[Entrance, ...]]:
        found: dict[str, list[Entrance]] = {}
        for entrance in self._entrances:
            for client in dict.fromkeys(entrance.admits):
                found.setdefault(client, []).append(entrance)
        return {client: tuple(entrances) for client, entrances in found.items()}

    def admits(self, site: Site) -> tuple[str, ...]:
        """The clients that a site lets in: those that it names, or all of the fleet's."""
        return tuple(self.clients) if site.clients is None else site.clients

    def callers(self, host: str) -> tuple[str, ...]:
        """The other hosts that pass requests on to this one."""
        return self._callers.get(host, ())

    @cached_property
    def _callers(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, dict[str, None]] = {}
        for caller, servers in (*self._proxied, *self._asked):
            for behind in hosts_of(servers):
                if behind != caller:
                    found.setdefault(behind, {})[caller] = None
        return {behind: tuple(callers) for behind, callers in found.items()}
