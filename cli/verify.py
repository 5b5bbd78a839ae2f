"""Assert that every resource is as declared and every role does what it is for.

examples:
  paddock verify
  paddock verify --limit ai
  paddock verify --deep           reads every model whole, which takes a while, instead of trusting what was noted of it

It goes its own way to the hosts (testinfra over SSH), so that `up` and its check cannot be wrong together. Changes nothing.
Exit code 0 where all checks pass, 1 where one fails.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from cli.opening import limit_argument, opened
from control.verification import verify


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--deep", action="store_true", help="compare the models themselves with their digests, not what was noted of them")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    failed = verify(this.fleet, this.state, [host.name for host in this.hosts], print, partial(print, file=sys.stderr), deep=options.deep)
    return 1 if any(failed.values()) else 0
