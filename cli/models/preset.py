"""Show or change a model's options in the inventory and on its hosts.

examples:
  paddock models preset qwen-35b
  paddock models preset qwen-35b temp=0.7 top-k=
  paddock models preset qwen-35b temp=0.7 --yes --limit ai
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cli.arguments import Opened, limit_argument, opened, yes_argument
from cli.asking import agreed
from cli.servers import model_argument, model_meant, on_each, reached, server_argument, told
from cli.views.models import loaded
from cli.views.table import table
from inventory.errors import UsageError
from roles.server import Server

if TYPE_CHECKING:
    from control.ssh.reach import Reach
    from inventory.model_shape import ModelShape


def arguments(command: argparse.ArgumentParser) -> None:
    model_argument(command)
    command.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="options without dashes; KEY= removes one")
    yes_argument(command)
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, servers, model = model_meant(options)
    if not options.changes:
        _show(this, servers, model)
        return 0
    changes: dict[str, str | None] = {}
    for each in options.changes:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"{each}: is not KEY=VALUE, such as temp=0.7; `{each}=` removes it")
        changes[key] = value or None
    return change(this, servers, model, options, changes)


def _show(this: Opened, servers: tuple[Server, ...], model: str) -> None:
    """The options that each server takes for the model, and where the inventory says them; servers that take the same are told together."""
    from control.editing.places import said_at

    alike: dict[tuple[tuple[str, str, str], ...], list[Server]] = {}
    for server in servers:
        preset = this.fleet.preset(server, model)
        rows = tuple((f"  {name}", _text(value), said_at(this.fleet, server, model, name)) for name, value in preset.items())
        alike.setdefault(rows, []).append(server)
    for rows, those in alike.items():
        print(f"{model} on {', '.join(map(told, those))}:")
        print(table(rows) if rows else "  nothing is said: llama-server's own defaults")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def change(this: Opened, servers: tuple[Server, ...], model: str, options: argparse.Namespace, changes: dict[str, str | None]) -> int:
    """Writes options of the model into the inventory, brings its hosts up, and has the servers load it with them."""
    from control.editing.options import with_options
    from control.llama_cpp.options import options_by_host
    from control.servers.contexts import asks_for_context, shape_of, told_of

    path, known, is_context = this.path, options_by_host(this.fleet, this.path.parent), asks_for_context(changes)
    with reached(this, servers) as reach:
        if reach.failures:
            return 1  # nothing is written that could not be brought about
        shape = shape_of(this.fleet, path, reach, servers, model, is_needed=is_context)
    edit = with_options(path, this.fleet, known, model, servers, changes)
    remarks = told_of(edit.candidate.fleet, servers, model, shape, known)
    if not edit.candidate.differs:
        print(*remarks, f"{path} says so already", sep="\n", flush=True)
    else:
        others = [f"{', '.join(edit.others)} will take it too, at the next `paddock up`"] if edit.others else []
        notes = [*remarks, *others]
        question = "Write it, and bring it about?"
        if not agreed(edit.candidate, question, options.yes, "`--yes` writes it, and brings it about", notes):
            return 1
        edit.candidate.keep()
    return _bring_about(servers, model, options, shape if is_context else None)


def _bring_about(servers: tuple[Server, ...], model: str, options: argparse.Namespace, shape: ModelShape | None) -> int:
    """Brings the servers' hosts up, and has them load the model; given its shape, it has to come back with the context asked for."""
    from cli.up import bring_up
    from control.llama_cpp.options import options_by_host
    from control.servers import served
    from control.servers.contexts import refuse_shorter

    hosts, meant = list(dict.fromkeys(each.host for each in servers)), {(each.host, each.name) for each in servers}
    this = opened(argparse.Namespace(inventory=options.inventory, lab=options.lab, limit=hosts))
    servers = tuple(each for host in hosts for each in this.fleet.servers(host) if (host, each.name) in meant)  # as they are by now
    if code := bring_up(this, verb="models preset", yes=options.yes, verified="never", chat=False):
        print("the inventory has it: `paddock up` brings it about")
        return code

    known = options_by_host(this.fleet, this.path.parent)

    def load(reach: Reach, server: Server) -> None:
        served.ready(reach, server)
        found = served.load(reach, server, model)
        if shape:
            refuse_shorter(found, shape, this.fleet.preset(server, model), known.get(server.host))
        print(loaded(found), flush=True)

    return on_each(this, servers, load)
