"""Build the missing artifacts, for hosts whose hardware is known.

examples:
  paddock artifacts build
  paddock artifacts build --limit pi
"""

from __future__ import annotations

import argparse

from cli.arguments import limit_argument, opened, steal_lock_argument
from cli.asking import ask_at_terminal
from cli.views.progress import Progress


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    steal_lock_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.deployment.compile import compile_for
    from control.llama_cpp.releases import serves
    from control.state.lock import operator_lock

    progress = Progress()
    wanted = [host.name for host in this.hosts if serves(this.fleet, host.name)]
    with operator_lock(this.state, "artifacts build", steals=options.steal_lock) as holder:
        failures = compile_for(wanted, this.fleet, this.state, progress.of, ask_at_terminal, holder)
    progress.failures(failures)
    return 1 if failures else 0
