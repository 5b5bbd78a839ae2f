"""Change a model's context in the inventory and on its hosts.

examples:
  paddock models ctx qwen-35b 65536
  paddock models ctx qwen-35b 0
"""

from __future__ import annotations

import argparse

from cli.arguments import limit_argument, yes_argument
from cli.models.preset import change
from cli.servers import model_argument, model_meant, server_argument
from inventory.errors import UsageError
from roles.wording import shortened

DIGITS = 10
"""More tokens no model has a context of, and llama-server reads no larger number."""


def arguments(command: argparse.ArgumentParser) -> None:
    model_argument(command)
    command.add_argument("size", metavar="SIZE", help="in tokens; 0 means the model's training context")
    yes_argument(command)
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, servers, model = model_meant(options)
    if not options.size.isdecimal() or not options.size.isascii():
        raise UsageError(f'{options.size}: is not a context size: give a number of tokens, such as "{model} 16384"')
    if len(options.size) > DIGITS:
        raise UsageError(f"{shortened(options.size)}: is no context size: it has {len(options.size):,} digits")
    return change(this, servers, model, options, {"ctx-size": options.size})
