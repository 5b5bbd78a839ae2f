"""Where the inventory says an option of a model, and where a new one of it is to be written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache

from control.editing import value_at
from inventory.errors import PaddockError
from inventory.options import SHIPPED, Options, bare, read
from inventory.ranges import RangeError, expanded
from inventory.schema import Fleet
from inventory.servers import Server
from roles.llama_server.settings import LlamaServerSettings

Path = tuple[str, ...]


def places(text: str, fleet: Fleet, options: Mapping[str, Options], model: str, option: str, servers: Iterable[Server]) -> list[Path]:
    """Where the option is to be written so that these servers take it for the model: one place, but for instances that say it themselves.

    A model's own preset goes before what its router says; an instance's goes before the model's. What an instance inherits of a group is
    written at its host. An option that is there under another of its names keeps that name (`options`: of each host).
    """
    found: list[Path] = []
    for server in servers:
        role = fleet.role(server.host, "llama_server", LlamaServerSettings)
        instance = role.instances.get(server.group) if role and server.kind == "instance" else None
        known = options.get(server.host) or _shipped()
        if instance and (spelled := _spelled(option, instance.preset, known)):
            found.append(("hosts", _key(text, server.host), "roles", "llama_server", "instances", server.group, "preset", spelled))
        else:
            there = value_at(text, ("models", model, "preset")) or {}
            found.append(("models", model, "preset", _spelled(option, there, known) or option))
    return list(dict.fromkeys(found))


def said_at(fleet: Fleet, server: Server, model: str, option: str) -> str:
    """Where the inventory says what this server takes: `models.chat.preset`, `the role of ai`."""
    role = fleet.role(server.host, "llama_server", LlamaServerSettings)
    if role and server.kind == "instance" and server.group in role.instances and option in role.instances[server.group].preset:
        return f"hosts.{server.host}.roles.llama_server.instances.{server.group}.preset"
    return f"models.{model}.preset" if option in fleet.models[model].preset else f"hosts.{server.host}.roles.llama_server.preset"


def also_changed(
    text: str, written: Iterable[Path], fleet: Fleet, options: Mapping[str, Options], model: str, servers: Iterable[Server]
) -> list[str]:
    """Servers that take what is written there too, beside those that were meant."""
    meant, written = tuple(servers), set(written)
    others = [each for host in fleet.hosts for each in fleet.servers(host) if each not in meant and model in each.models]
    return [
        f"{each.host}/{each.name}"
        for each in others
        if any(path in places(text, fleet, options, model, path[-1], [each]) for path in written)
    ]


def _spelled(option: str, preset: Collection[str], options: Options) -> str | None:
    """The name that a preset has the option by. One that turns it off (`no-jinja`) says something else, and is not it."""
    if option in preset or not (meant := options.find(option)):
        return option if option in preset else None
    alike = meant.turned_off_by if option in meant.turned_off_by else set(map(bare, meant.names))
    return next((name for name in preset if name in alike), None)


@cache
def _shipped() -> Options:
    """What stands in for the options of a version that nobody has seen yet."""
    return read(SHIPPED.read_text())


def _key(text: str, host: str) -> str:
    """The key that describes the host: its name, or a range that it is in."""
    for key in value_at(text, ("hosts",)) or {}:
        try:
            if host in expanded(key):
                return str(key)
        except RangeError:
            continue
    raise PaddockError(f"hosts.{host}: the inventory does not say where this host is described: change it by hand")
