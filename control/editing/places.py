"""Where the inventory says an option of a model, and where a new one of it is to be written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache

from control.editing.text import value_at
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.options import SHIPPED, Options, bare, read
from inventory.ranges import RangeError, expanded
from roles.server import Server

Path = tuple[str, ...]


def places(text: str, options: Mapping[str, Options], model: str, option: str, servers: Iterable[Server]) -> list[Path]:
    """Where the option is to be written so that these servers take it for the model: one place, but for instances that say it themselves.

    A model's own preset goes before what its router says; an instance's goes before the model's. What an instance inherits of a group is
    written at its host. An option that is there under another of its names keeps that name (`options`: of each host).
    """
    found: list[Path] = []
    for server in servers:
        known = options.get(server.host) or _shipped()
        if server.kind == "instance" and (spelled := _spelled(option, server.preset, known)):
            found.append(("hosts", _key(text, server.host), *server.keys, "preset", spelled))
        else:
            there = value_at(text, ("models", model, "preset")) or {}
            found.append(("models", model, "preset", _spelled(option, there, known) or option))
    return list(dict.fromkeys(found))


def said_at(fleet: Fleet, server: Server, model: str, option: str) -> str:
    """Where the inventory says what this server takes: `models.chat.preset`, `the role of ai`."""
    if server.kind == "instance" and option in server.preset:
        return f"hosts.{server.host}.{'.'.join(server.keys)}.preset"
    of_role = f"hosts.{server.host}.{'.'.join(server.shared_keys)}.preset"
    return f"models.{model}.preset" if option in fleet.models[model].preset else of_role


def also_changed(
    text: str, written: Iterable[Path], fleet: Fleet, options: Mapping[str, Options], model: str, servers: Iterable[Server]
) -> list[str]:
    """Servers that take what is written there too, beside those that were meant."""
    meant, written = tuple(servers), set(written)
    others = [each for host in fleet.hosts for each in fleet.servers(host) if each not in meant and model in each.models]
    return [
        f"{each.host}/{each.name}" for each in others if any(path in places(text, options, model, path[-1], [each]) for path in written)
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
    raise PaddockError(f"hosts.{host}: the inventory does not show where this host is defined: edit it by hand")
