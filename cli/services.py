"""Selects what runs on hosts, llama-servers and stacks, by the words of `start`, `stop`, `restart` and `logs`; completes these words."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from cli.arguments import Opened, inventory_path
from cli.servers import names_of
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet
from inventory.load import load
from roles.server import Server
from roles.wording import did_you_mean

if TYPE_CHECKING:
    from control.servers.host_stack import HostStack

Meant: TypeAlias = "Server | HostStack"


def services_argument(command: argparse.ArgumentParser) -> None:
    helped = "a llama-server or a stack: NAME or HOST/NAME; STACK/CONTAINER; HOST for all of a host"
    command.add_argument("server", nargs="*", metavar="NAME", help=helped).completer = service_names  # type: ignore[attr-defined]


def service_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    fleet = load(inventory_path(parsed_args))
    return sorted(name for name in _known(*_all(fleet, fleet.hosts)) if name.startswith(prefix))


def services_meant(this: Opened, words: list[str]) -> tuple[Meant, ...]:
    """What runs on the hosts that are meant: what the words name, or all of it. Raises UsageError for a wrong word."""
    servers, stacks = _all(this.fleet, (host.name for host in this.hosts))
    if not servers and not stacks:
        raise UsageError(f"{this.path}: there is no llama-server and no stack on {', '.join(host.name for host in this.hosts)}")
    known = _known(servers, stacks)
    every: list[Meant] = [*servers, *stacks]
    for word in words:
        if word not in known:
            what = "no llama-server and no stack" if stacks else "no llama-server"
            hint = did_you_mean(word, known) or f"; there are {told_all(every[:20])}"
            raise UsageError(f"{word}: {what} has this name{hint}")
    meant = tuple(each for each in servers if not words or set(words) & names_of(each))
    return (*meant, *(part for each in stacks if (part := _part(each, words))))


def told_all(meant: Iterable[Meant]) -> str:
    return ", ".join(f"{each.host}/{each.name}" for each in meant)


def _all(fleet: Fleet, hosts: Iterable[str]) -> tuple[tuple[Server, ...], tuple[HostStack, ...]]:
    from control.deployment.stacks import stacks_of
    from control.servers.host_stack import HostStack

    servers: list[Server] = []
    stacks: list[HostStack] = []
    for name in hosts:
        servers += fleet.servers(name)
        try:
            stacks += (HostStack(name, stack) for stack in stacks_of(fleet, fleet.hosts[name]))
        except PaddockError as error:
            raise UsageError(str(error)) from None
    return tuple(servers), tuple(stacks)


def _known(servers: Iterable[Server], stacks: Iterable[HostStack]) -> set[str]:
    of_stacks = {name for each in stacks for name in (*_names(each), *_container_names(each))}
    return of_stacks.union(*map(names_of, servers))


def _names(meant: HostStack) -> set[str]:
    """What means a stack with all its containers."""
    return {meant.host, meant.stack.id, meant.stack.name, f"{meant.host}/{meant.stack.name}"}


def _container_names(meant: HostStack) -> dict[str, str]:
    """What means one container of a stack → the container."""
    called = ((f"{meant.stack.name}/{each.name}", each.name) for each in meant.stack.containers)
    return {name: container for own, container in called for name in (own, f"{meant.host}/{own}")}


def _part(whole: HostStack, words: list[str]) -> HostStack | None:
    """Of a stack what the words mean; None where that is nothing."""
    from control.servers.host_stack import HostStack

    if not words or _names(whole) & set(words):
        return whole
    containers = _container_names(whole)
    only = dict.fromkeys(containers[word] for word in words if word in containers)
    return HostStack(whole.host, whole.stack, tuple(only)) if only else None
