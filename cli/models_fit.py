"""`paddock models fit`: what the models of each host need of its memory and cards, and whether that is there."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.opening import Opened, action_of, limit_argument, opened

if TYPE_CHECKING:
    from inventory.context import Context
    from inventory.model_shape import ModelShape


def add(actions: Any) -> None:
    words = "what models need of memory and cards, and what fits together; asks no host"
    fit = action_of(actions, "fit", words, "models fit\nmodels fit --limit ai --json")
    fit.add_argument("--json", action="store_true", help="for programs")
    fit.set_defaults(act=_fit)
    limit_argument(fit)


def _fit(options: argparse.Namespace) -> int:
    from cli.fit_table import as_data
    from control.context import context_for
    from roles.llama_server.demands import judged, refusals

    this = opened(options)
    context = context_for(this.fleet, this.state, now=datetime.now(UTC))
    shapes, unread = _shapes(this, context)
    context = replace(context, shapes=shapes)
    serving = [host.name for host in this.hosts if this.fleet.servers(host.name)]
    real = {name: shape for name, shape in shapes.items() if this.fleet.models[name].source != "tiny"}
    refused = {host: list(refusals(host, this.fleet, context, real)) for host in serving}
    if options.json:
        hosts = {host: {"places": as_data(judged(host, this.fleet, context, shapes)), "refused": refused[host]} for host in serving}
        print(json.dumps({"hosts": hosts, "unread": unread}, indent=1))
    else:
        for host in serving:
            if host not in context.hardware:
                print(f"{host}: nobody has looked at its hardware yet: `paddock plan` does", file=sys.stderr)
            print(f"{host}:")
            _tell(host, this, context)
        for line in (*unread.values(), *(line for each in refused.values() for line in each)):
            print(line, file=sys.stderr)
    return 1 if unread or any(refused.values()) else 0


def tell_fit(host: str, this: Opened, context: Context) -> None:
    """Prints the picture of a host, as far as its models have been looked at; nothing where none has, or where they are all tiny."""
    if any(entry.source != "tiny" for entry in this.fleet.served_models(host).values()):
        _tell(host, this, context)


def _tell(host: str, this: Opened, context: Context) -> None:
    from cli.fit_table import lines
    from roles.llama_server.demands import judged

    blocks = (sys.stdout.encoding or "").lower().startswith("utf")
    width = shutil.get_terminal_size((140, 24)).columns
    for line in lines(judged(host, this.fleet, context, context.shapes), width, blocks=blocks):
        print(line)


def _shapes(this: Opened, context: Context) -> tuple[dict[str, ModelShape], dict[str, str]]:
    """The models' shapes, read where nobody had; and of those that cannot be read, why."""
    from control.payload import hf_token
    from control.shapes import learned
    from inventory.errors import PaddockError

    found, unread = dict(context.shapes), dict[str, str]()
    for name in dict.fromkeys(name for host in this.hosts for name in this.fleet.served_models(host.name) if name not in found):
        try:
            found[name] = learned(name, this.fleet.models[name], this.path, hf_token(context.secrets))
        except PaddockError as error:
            unread[name] = str(error)
    return found, unread
