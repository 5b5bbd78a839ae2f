"""Take over what the hosts know of a newer state that is lost: they accept this one again, and who was revoked stays so.

examples:
  paddock state adopt                shows what the hosts know, asks
  paddock state adopt --yes

Changes no host. Put the newest state back from a backup or from git instead, if there is one: hosts do not know keys and secrets.
Exit codes: 0 done or nothing to do, 1 not.
"""

from __future__ import annotations

import argparse

from cli.arguments import limit_argument, opened, yes_argument
from cli.asking import ask_at_terminal, confirmed
from cli.views.progress import Progress


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    yes_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.adoption import adopted, newer
    from control.state.lock import operator_lock

    this, progress = opened(options), Progress()
    with operator_lock(this.state, "state adopt"):
        known = newer(this.fleet, this.state, this.hosts, tell=progress.of, ask=ask_at_terminal)
        progress.failures(known.failures)
        if not known.owners:
            progress.line("no host that answered knows a newer state than the one here")
            return 1 if known.failures else 0
        for name, whose in known.whose.items():
            progress.line(f"{name}: {whose}")
        for line in known.lacking:
            progress.line(f"  {line}")
        if not known.has_ca:
            progress.line("  the CA of the lost state is not here: `paddock up` makes a new one, and every client needs a new certificate")
        if not confirmed("Take this over?", options.yes, "`paddock state adopt --yes` does it"):
            progress.error("nothing was changed")
            return 1
        adopted(this.state, known)
    progress.line(
        "taken over. A client whose certificate the lost state issued needs a new one: `paddock certs renew`, then `paddock certs export`. "
        "`paddock plan` shows what is to change on the hosts"
    )
    return 1 if known.failures else 0
