"""Selects llama-servers and models by the words of the command line, completes these words, and acts on one server after another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from cli.arguments import Opened, inventory_path, opened
from cli.asking import ask_at_terminal
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet
from inventory.load import load
from roles.server import Server
from roles.wording import did_you_mean

if TYPE_CHECKING:
    from control.ssh.reach import Reach


class OnHost(Protocol):
    """What runs on a host, and what it is called there."""

    @property
    def host(self) -> str: ...

    @property
    def name(self) -> str: ...


S = TypeVar("S", bound=OnHost)


def server_argument(command: argparse.ArgumentParser) -> None:
    """`--server`, of the verbs that take a model."""
    server = command.add_argument(
        "--server", action="append", default=[], metavar="SERVER", help="only these servers: NAME, HOST/NAME or HOST"
    )
    server.completer = server_names  # type: ignore[attr-defined]


def model_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL").completer = model_names  # type: ignore[attr-defined]


def model_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    models = load(inventory_path(parsed_args)).models
    return sorted(name for model, entry in models.items() for name in (model, *entry.aliases) if name.startswith(prefix))


def host_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).hosts if name.startswith(prefix)]


def server_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    fleet = load(inventory_path(parsed_args))
    return sorted(name for name in _known(_servers(fleet, tuple(fleet.hosts))) if name.startswith(prefix))


def servers_meant(this: Opened, words: list[str]) -> tuple[Server, ...]:
    """The servers of the hosts that are meant: those that the words name, or all of them. Raises UsageError for a wrong word."""
    every = _servers(this.fleet, tuple(host.name for host in this.hosts))
    if not every:
        raise UsageError(f"{this.path}: there is no llama-server on {', '.join(host.name for host in this.hosts) or 'these hosts'}")
    for word in words:
        if word not in (known := _known(every)):
            raise UsageError(f"{word}: no llama-server has this name{did_you_mean(word, known) or f'; there are {_told(every)}'}")
    return tuple(each for each in every if not words or set(words) & names_of(each))


def own_name(this: Opened, model: str) -> str:
    """The inventory's name of a model that is called by it, or by one of its aliases."""
    return next((name for name, entry in this.fleet.models.items() if model in entry.aliases), model)


def serving(this: Opened, model: str, words: list[str]) -> tuple[Server, ...]:
    """The servers meant that have the model, by the inventory's name. Raises UsageError where none has it."""
    meant = servers_meant(this, words)
    found = tuple(each for each in meant if model in each.models)
    if not found:
        known = dict.fromkeys(name for each in meant for name in each.models)
        hint = did_you_mean(model, known) or f"; there are {', '.join(known)}"
        where = "" if len(meant) == len(_servers(this.fleet, tuple(this.fleet.hosts))) else f" on {_told(meant)}"
        raise UsageError(f"{model}: no such model is served{where}{hint}")
    return found


def model_meant(options: argparse.Namespace) -> tuple[Opened, tuple[Server, ...], str]:
    """The servers meant that have the model meant, and what the inventory calls it."""
    this = opened(options)
    model = own_name(this, options.model)
    return this, serving(this, model, options.server), model


@contextmanager
def reached(this: Opened, servers: Iterable[OnHost]) -> Iterator[Reach]:
    """The servers' hosts, connected to; those that cannot be are told, and only where none can be is that the end."""
    with hosts_reached(this, dict.fromkeys(each.host for each in servers)) as reach:
        yield reach


@contextmanager
def hosts_reached(this: Opened, names: Iterable[str]) -> Iterator[Reach]:
    """As `reached`, by the names of hosts."""
    from control.ssh.reach import Reach

    reach = Reach(this.fleet, this.state, [this.fleet.hosts[name] for name in names])
    with reach.connected(ask_at_terminal):
        at_once = dict(reach.failures)
        _tell(at_once)
        yield reach
        _tell({host: why for host, why in reach.failures.items() if host not in at_once})


def _tell(failures: Mapping[str, str]) -> None:
    for host, why in failures.items():
        print(why if why.startswith(f"{host}: ") else f"{host}: {why}", file=sys.stderr)


def each_reached(reach: Reach, servers: Iterable[S]) -> Iterator[S]:
    return (each for each in servers if each.host not in reach.failures)


def on_each(this: Opened, servers: tuple[S, ...], act: Callable[[Reach, S], None]) -> int:
    """Does it on one server after another, for the exit code; what fails is told, and the others are done all the same. A host that is
    another state's is left as it is.
    """
    failed = False
    with reached(this, servers) as reach:
        from control.deployment.asking import refuse_strangers

        refuse_strangers(reach.run, reach.hosts, this.state)
        for server in each_reached(reach, servers):
            try:
                act(reach, server)
            except PaddockError as error:
                failed = True
                print(error, file=sys.stderr)
        return 1 if failed or reach.failures else 0


def told(server: OnHost) -> str:
    return f"{server.host}/{server.name}"


def saying(server: Server) -> Callable[[str], None]:
    """Prints what becomes of a server, a line each time."""
    return lambda status: print(f"{told(server)}: {status}", flush=True)


def _servers(fleet: Fleet, hosts: tuple[str, ...]) -> tuple[Server, ...]:
    return tuple(each for name in hosts for each in fleet.servers(name))


def names_of(server: Server) -> set[str]:
    """What a server may be called: the host and its group of instances mean all that are in them."""
    own = {server.name, server.group} - {""}
    return {server.host, server.unit, *own, *(f"{server.host}/{name}" for name in own)}


def _known(servers: tuple[Server, ...]) -> set[str]:
    return {name for each in servers for name in names_of(each)}


def _told(servers: tuple[Server, ...]) -> str:
    return ", ".join(told(each) for each in servers[:20]) + (", …" if len(servers) > 20 else "")
