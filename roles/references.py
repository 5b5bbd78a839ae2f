"""What a role's settings are seen beside: the rest of the fleet, and what may be wrong with the two together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from roles.role import RoleSettings
from roles.server import Entrance, ImageServer, Server
from roles.source import Source
from roles.upstream import Behind, Upstream, image_servers_behind, servers_behind
from roles.wording import did_you_mean, quoted

GUARDED = "and add the role firewall, which blocks other callers"


class Finding(NamedTuple):
    """What is wrong, and what to do. `keys` lead to it from its host; it stands at the last of them that is written, or, `of_value`, behind
    that."""

    keys: tuple[str, ...]
    words: str
    of_value: bool = False


@dataclass(frozen=True)
class Whole:
    """All of a fleet, as far as it is well-formed. Of each host `roles` has the settings, None of a role whose are malformed, which is told
    elsewhere; `models` says of each whether its file lies on its host already. Where the domain is malformed it is empty.
    """

    roles: Mapping[str, Mapping[str, RoleSettings | None]]
    models: Mapping[str, bool]
    clients: tuple[str, ...]
    domain: str
    days: Mapping[str, int] = field(default_factory=dict)
    """How long a client's certificate lives, by client."""

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The hosts of each group."""

    def servers(self, host: str) -> tuple[Server, ...]:
        if host not in self._servers:
            self._servers[host] = tuple(server for each in self.roles[host].values() if each for server in each.servers(host))
        return self._servers[host]

    @cached_property
    def _servers(self) -> dict[str, tuple[Server, ...]]:
        return {}

    def behind(self, upstream: Behind) -> tuple[Server, ...]:
        """The llama-servers that a site leads to, as far as their settings are well-formed."""
        if upstream not in self._behind:
            self._behind[upstream] = servers_behind(upstream, self.roles, self.groups, self.servers)
        return self._behind[upstream]

    @cached_property
    def _behind(self) -> dict[Behind, tuple[Server, ...]]:
        return {}

    def every_behind(self, upstream: Upstream) -> tuple[Server, ...]:
        """As `behind`, where a host's name stands for all servers that it has."""
        return servers_behind(upstream, self.roles, self.groups, self.servers, every=True)

    def image_servers_behind(self, upstream: Upstream) -> tuple[ImageServer, ...]:
        """What makes images on the hosts that a name stands for."""
        return image_servers_behind(upstream, self.roles, self.groups, self.image_servers)

    def image_servers(self, host: str) -> tuple[ImageServer, ...]:
        return tuple(server for each in self.roles[host].values() if each for server in each.image_servers(host))

    def has_client(self, name: str) -> bool:
        return name in self._clients

    @cached_property
    def _clients(self) -> frozenset[str]:
        return frozenset(self.clients)

    @cached_property
    def entrances(self) -> Mapping[str, tuple[Entrance, ...]]:
        """Every site by its name; of two hosts that both have it the first in the file comes first."""
        found: dict[str, list[Entrance]] = {}
        for host, roles in self.roles.items():
            for entrance in (entrance for each in roles.values() if each for entrance in each.entrances(host, "", self.clients)):
                found.setdefault(entrance.name, []).append(entrance)
        return {name: tuple(each) for name, each in found.items()}

    @cached_property
    def admitting(self) -> Mapping[str, tuple[str, ...]]:
        """By client the sites that let it in."""
        found: dict[str, list[str]] = {}
        for name, entrances in self.entrances.items():
            for client in dict.fromkeys(entrances[-1].admits):
                found.setdefault(client, []).append(name)
        return {client: tuple(names) for client, names in found.items()}

    @cached_property
    def malformed(self) -> frozenset[str]:
        """The roles whose settings are malformed on some host."""
        return frozenset(role for roles in self.roles.values() for role, settings in roles.items() if settings is None)

    def llama_cpp_source(self, host: str) -> Source | None:
        """The source of the llama.cpp that serves there; None where it is malformed, or where there is none."""
        said = (each.llama_cpp_source() for each in self.roles[host].values() if each)
        return next((source for source in said if source), None)

    def servers_of_worker(self, host: str) -> tuple[Server, ...]:
        """The llama-servers of all hosts for which this one computes."""
        return self._servers_by_worker.get(host, ())

    @cached_property
    def _servers_by_worker(self) -> Mapping[str, tuple[Server, ...]]:
        found: dict[str, list[Server]] = {}
        for server in (server for host in self.roles for server in self.servers(host)):
            for worker in dict.fromkeys(server.workers):
                found.setdefault(worker, []).append(server)
        return {worker: tuple(servers) for worker, servers in found.items()}

    def no_host(self, name: str) -> str:
        """What to say where the fleet has no such host."""
        return self._unknown("host", name, self.roles)

    def no_host_or_group(self, name: str) -> str:
        """What to say where the fleet has neither."""
        return self._unknown("host or group" if self.groups else "host", name, (*self.roles, *self.groups))

    def no_model(self, name: str, keys: tuple[str, ...]) -> Iterator[Finding]:
        """Where the fleet has no such model."""
        if name not in self.models:
            yield Finding(keys, f"{self._unknown('model', name, self.models)}: define it under models", of_value=True)

    def no_client(self, name: str, keys: tuple[str, ...]) -> Iterator[Finding]:
        """Where the fleet has no such client."""
        if not self.has_client(name):
            yield Finding(keys, f"{self._unknown('client', name, self.clients)}: add it under clients", of_value=True)

    def _unknown(self, noun: str, name: str, known: Iterable[str]) -> str:
        if (noun, name) not in self._told:
            self._told[noun, name] = f"no {noun} is called {quoted(name)}{did_you_mean(name, known)}"
        return self._told[noun, name]

    @cached_property
    def _told(self) -> dict[tuple[str, str], str]:
        """A name that is misspelt in a group is misspelt on each of its hosts."""
        return {}
