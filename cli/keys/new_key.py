"""Shared by `create` and `rotate`: a new key is shown once. Standard output has the key alone, words stand beside it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from cli.asking import confirmed
from cli.views.keys import as_data
from inventory.errors import UsageError

if TYPE_CHECKING:
    from control.servers.gateway_users import NewKey

ONCE = "it is shown this once, and can be replaced, but not shown again"


def json_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON: the key, and what is known of it")


def agreed(question: str, options: argparse.Namespace) -> bool:
    """Whether the person wants a new key. Raises UsageError where the question would land in a file, or nobody is there to be asked."""
    if not options.yes and not sys.stdout.isatty():
        raise UsageError("there is no terminal to ask: `--yes` does it")
    if confirmed(question, options.yes, "`--yes` does it"):
        return True
    print("nothing was changed", file=sys.stderr)
    return False


def show(made: NewKey, words: str, hosts: tuple[str, ...], options: argparse.Namespace) -> int:
    from control.servers.listed_keys import of_gateway

    if options.json:
        print(json.dumps({"key": made.key, "record": as_data(of_gateway(made, hosts, time.time()))}, indent=1))
        return 0
    print(f"{words}; {ONCE}:", file=sys.stderr, flush=True)
    print(made.key)
    return 0
