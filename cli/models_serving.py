"""`paddock models list`, `load`, `unload`, `use`, `ctx` and `preset`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cli.opening import Opened, action_of, confirmed, limit_argument, opened
from cli.servers import Tally, each_reached, model_argument, own_name, reached, saying, server_argument, servers_meant, serving, told
from cli.showing import coloured, table
from inventory.errors import PaddockError, UsageError
from inventory.schema import Fleet
from inventory.servers import Server
from roles.preset import Preset

if TYPE_CHECKING:
    from control.editing import Edit
    from control.reach import Reach
    from control.serving import Serving
    from inventory.model_shape import ModelShape

CTX = "ctx-size"
PRESET_EXAMPLES = "models preset qwen-35b\nmodels preset qwen-35b temp=0.7 top-k=\nmodels preset qwen-35b temp=0.7 --yes --limit ai"

Actions = Any  # argparse does not name what add_subparsers gives


def add(actions: Actions) -> None:
    for name, act, words, examples in (
        ("list", _list, "what every server serves, and how each model is", "models list\nmodels list --limit rig --json"),
        ("load", _load, "load a model, and wait until it is there", "models load qwen-35b\nmodels load chat --server rig/chat-2"),
        ("unload", _unload, "unload a model", "models unload qwen-35b"),
        ("use", _use, "load a model and unload all others of its servers", "models use qwen-35b"),
        ("ctx", _ctx, "change a model's context in the inventory, and on its hosts", "models ctx qwen-35b 65536\nmodels ctx qwen-35b 0"),
        ("preset", _preset, "show or change a model's options in the inventory, and on its hosts", PRESET_EXAMPLES),
    ):
        action = action_of(actions, name, words, examples)
        if name != "list":
            model_argument(action)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        if name == "ctx":
            action.add_argument("size", metavar="SIZE", help="in tokens; 0 is what the model was made for")
        if name == "preset":
            action.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="options without dashes; KEY= takes one away")
        if name in ("ctx", "preset"):
            action.add_argument("--yes", "-y", action="store_true", help="do not ask")
        server_argument(action)
        limit_argument(action)
        action.set_defaults(act=act)


def _list(options: argparse.Namespace) -> int:
    this = opened(options)
    servers = servers_meant(this, options.server)
    from control import serving as served

    with reached(this, servers) as reach:
        found = served.survey(reach, servers)
        if options.json:
            print(json.dumps([_as_data(each) for each in found], indent=1))
        elif found:
            print(_table(found))
        return 1 if reach.failures else 0


def _table(found: Iterable[Serving]) -> str:
    rows: list[tuple[str, ...]] = [("host", "server", "model", "status", "context", "memory", "card", "")]
    for each in found:
        context = "" if each.context is None else f"{each.context} of {each.trained}" if each.trained else str(each.context)
        rows.append(
            (each.server.host, each.server.name, each.model, each.status, context, _mib(each.memory_mib), _mib(each.card_mib), each.why)
        )
    if not any(row[6] for row in rows[1:]):
        rows = [(*row[:6], row[7]) for row in rows]
    heads, *lines = table(rows).splitlines()
    colours = {"loaded": "+", "sleeping": "+", "unloaded": "", "loading": "@"}
    return "\n".join([heads, *(coloured(line, colours.get(row[3], "-")) for line, row in zip(lines, rows[1:], strict=True))])


def _mib(amount: int | None) -> str:
    return f"{amount} MiB" if amount else ""


def _as_data(each: Serving) -> dict[str, Any]:
    return {
        "host": each.server.host,
        "server": each.server.name,
        "kind": each.server.kind,
        "model": each.model,
        "status": each.status,
        "why": each.why or None,
        "context": each.context,
        "context_trained": each.trained,
        "memory_mib": each.memory_mib,
        "card_mib": each.card_mib,
    }


def _load(options: argparse.Namespace) -> int:
    return _of_each(*_meant(options), alone=False)


def _use(options: argparse.Namespace) -> int:
    return _of_each(*_meant(options), alone=True)


def _meant(options: argparse.Namespace) -> tuple[Opened, tuple[Server, ...], str]:
    """The servers that have the model, and what the inventory calls it."""
    this = opened(options)
    model = own_name(this, options.model)
    return this, serving(this, model, options.server), model


def _of_each(this: Opened, servers: tuple[Server, ...], model: str, *, alone: bool) -> int:
    """Has each server load the model, and where it is to be `alone` there, unload the others first."""
    from control import serving as served

    tally = Tally()
    with reached(this, servers) as reach:
        for server in each_reached(reach, servers):
            with tally.of():
                for other in server.models if alone and server.kind == "router" else ():
                    if other != model and served.unload(reach, server, other):
                        saying(server)(f"{other} is unloaded")
                _there(server, served.load(reach, server, model, lambda status: print(f"{model}: {status}", flush=True)))
        return 1 if tally.failed or reach.failures else 0


def _there(server: Server, found: Serving) -> None:
    context = f", with a context of {found.context} tokens" if found.context else ""
    print(f"{told(server)}: {found.model} is {found.status}{context}", flush=True)


def _unload(options: argparse.Namespace) -> int:
    this, servers, model = _meant(options)
    from control import serving as served

    tally = Tally()
    with reached(this, servers) as reach:
        for server in each_reached(reach, servers):
            with tally.of():
                if server.kind == "instance":
                    raise PaddockError(
                        f"{told(server)}: an instance has its model for good: `paddock stop {told(server)}` frees its memory"
                    )
                was = served.unload(reach, server, model)
                print(f"{told(server)}: {model} {'is unloaded' if was else 'was not loaded'}", flush=True)
        return 1 if tally.failed or reach.failures else 0


def _ctx(options: argparse.Namespace) -> int:
    this, servers, model = _meant(options)
    if not options.size.isdecimal() or not options.size.isascii():
        raise UsageError(f'{options.size}: is no size of a context: give a number of tokens, such as "{model} 16384"')
    return _change(this, servers, model, options, {CTX: options.size})


def _preset(options: argparse.Namespace) -> int:
    this, servers, model = _meant(options)
    if not options.changes:
        _show_preset(this, servers, model)
        return 0
    changes: dict[str, str | None] = {}
    for each in options.changes:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"{each}: is no KEY=VALUE, such as temp=0.7; `{each}=` takes an option away")
        changes[key] = value or None
    return _change(this, servers, model, options, changes)


def _show_preset(this: Opened, servers: tuple[Server, ...], model: str) -> None:
    """The options that each server takes for the model, and where the inventory says them; servers that take the same are told together."""
    from control.places import said_at

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


def _change(this: Opened, servers: tuple[Server, ...], model: str, options: argparse.Namespace, changes: dict[str, str | None]) -> int:
    """Writes options of the model into the inventory, brings its hosts up, and has the servers load it with them."""
    from control.editing import Edit, candidate, difference, edited, read_text
    from control.options import options_by_host
    from control.places import also_changed, places

    path, known, asks_for_context = this.path, options_by_host(this.fleet, this.path.parent), _asks_for_context(changes)
    with reached(this, servers) as reach:
        if reach.failures:
            return 1  # nothing is written that could not be brought about
        shape = _shape(this, reach, servers, model, asks_for_context)
    text = read_text(path)
    edits = [Edit(place, value) for key, value in changes.items() for place in places(text, this.fleet, known, model, key, servers)]
    _refuse_inherited(text, edits)
    after = edited(text, edits)
    kept = candidate(path, after)
    _refuse_beyond_training(kept.fleet, servers, model, shape)
    if after == text:
        print(f"{path} says so already", flush=True)
    else:
        for line in difference(text, after, path):
            print(coloured(line, "@" if line.startswith("@@") else line[:1]), flush=True)
        if others := also_changed(text, [each.path for each in edits], this.fleet, known, model, servers):
            print(f"{', '.join(others)} will take it too, at the next `paddock up`", flush=True)
        if not confirmed("Write it, and bring it about?", options.yes, "`--yes` writes it, and brings it about"):
            print("nothing was changed")
            return 1
        kept.keep()
    return _bring_about(servers, model, options, shape if asks_for_context else None)


def _asks_for_context(changes: dict[str, str | None]) -> bool:
    """Whether a size is given; 0 is what the model was made for, or as much of that as there is room for."""
    asked = changes.get(CTX) or changes.get("c") or ""
    return asked.isascii() and asked.isdecimal() and int(asked) > 0


def _shape(this: Opened, reach: Reach, servers: tuple[Server, ...], model: str, is_needed: bool) -> ModelShape:
    """What is known of the model; where nobody has read its header, and it `is_needed`, at least the context that it was trained for."""
    from control import serving as served
    from control.shapes import known
    from inventory.model_shape import ModelShape

    if shape := known(this.fleet, this.path).get(model):
        return shape
    return ModelShape("", 0, context_length=(is_needed and served.trained(reach, servers, model)) or 0)


def _refuse_beyond_training(fleet: Fleet, servers: tuple[Server, ...], model: str, shape: ModelShape) -> None:
    """Raises UsageError where one of these servers would give the model a longer context than it was trained for."""
    from inventory.context import Context
    from roles.llama_server.demands import beyond_training, demands

    meant = {(each.host, each.name) for each in servers}
    for host in dict.fromkeys(each.host for each in servers):
        asked = (each for each in demands(host, fleet, Context(), {model: shape}) if (host, each.server) in meant)
        if line := next((line for each in asked for load in each.loads for line in beyond_training(load)), None):
            raise UsageError(line)


def _refuse_inherited(text: str, edits: Iterable[Edit]) -> None:
    from control.editing import value_at

    for edit in edits:
        if edit.value is None and value_at(text, edit.path) is None:
            raise UsageError(
                f"{'.'.join(edit.path)}: is not written there, so it cannot be taken away: `paddock models preset` shows where"
            )


def _bring_about(servers: tuple[Server, ...], model: str, options: argparse.Namespace, shape: ModelShape | None) -> int:
    """Brings the servers' hosts up, and has them load the model; given its shape, it has to come back with the context asked for."""
    from cli.up import bring_up
    from control import serving as served

    hosts, meant = list(dict.fromkeys(each.host for each in servers)), {(each.host, each.name) for each in servers}
    this = opened(argparse.Namespace(inventory=options.inventory, lab=options.lab, limit=hosts))
    servers = tuple(each for host in hosts for each in this.fleet.servers(host) if (host, each.name) in meant)  # as they are by now
    if code := bring_up(this, yes=options.yes, verified="never", chat=False):
        print("the inventory has it: `paddock up` brings it about")
        return code
    tally = Tally()
    with reached(this, servers) as reach:
        for server in each_reached(reach, servers):
            with tally.of():
                served.ready(reach, server)
                found = served.load(reach, server, model)
                if shape:
                    _refuse_shorter(found, shape, this.fleet.preset(server, model))
                _there(server, found)
        return 1 if tally.failed or reach.failures else 0


def _refuse_shorter(found: Serving, shape: ModelShape, preset: Preset) -> None:
    """Raises PaddockError where a slot has less context than the options should have given it."""
    from roles.llama_server.serving import context_of, padded, serving, settled

    asked = context_of(settled(shape, serving(preset)))
    if found.context and padded(found.context) < asked:
        more = ", which is all that llama-server gives it" if found.context == found.trained else ""
        raise PaddockError(f"{told(found.server)}: {found.model} came back with a context of {found.context} tokens, not {asked}{more}")
