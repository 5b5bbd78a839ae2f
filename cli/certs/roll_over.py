"""Change the CA in three steps: begin (both trusted, the old one signs), switch (the new one signs), finish (one trusted).

examples:
  paddock certs roll-over begin
  paddock certs roll-over switch
  paddock certs roll-over finish
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from cli.arguments import Opened, opened, yes_argument
from cli.asking import ask_at_terminal, confirmed
from cli.certs.admission import clock_argument, lab_argument
from control.pki import roll_over
from control.pki.authority import Authority
from control.state.secrets import Vault
from inventory.errors import UsageError

BEGUN = """\
CA {id} is made. The old one still signs; from the next `paddock up` on, hosts trust both.

next:
  paddock up
  paddock certs export NAME      for each client that no host of the fleet keeps: its ca.pem has both CAs now,
                                 and without it the client refuses the servers after the switch
  paddock certs roll-over switch"""

SWITCHED = """\
CA {id} signs from now on; both are trusted. Certificates of the old CA are let in until they expire.

next:
  paddock up                     issues every certificate anew, and brings it to the hosts
  paddock certs export NAME      for each client that no host of the fleet keeps
  paddock certs list             shows which certificates of the old CA are still let in
  paddock certs roll-over finish"""

FINISHED = """\
Only CA {id} is trusted.

next:
  paddock up                     hosts then refuse whatever another CA has signed"""


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("step", choices=tuple(STEPS), help="each step prints the next one")
    command.add_argument("--force", action="store_true", help="finish even if certificates of another CA are in use")
    clock_argument(command)
    yes_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.state.lock import operator_lock

    if options.force and options.step != "finish":
        raise UsageError("--force works only with `finish`")
    this = opened(options)
    if options.clock_is_right and options.step != "begin":
        raise UsageError("--clock-is-right works only with `begin`")
    with operator_lock(this.state, f"certs roll-over {options.step}"):
        authority = Authority(this.state, Vault(this.state), clock_is_right=options.clock_is_right)
        return STEPS[options.step](this, authority, options)


def _begin(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    from control.deployment.admission import require_time

    roll_over.require_beginning(authority, this.fleet, datetime.now(UTC))
    require_time(this.fleet, this.state, ask=ask_at_terminal)
    made = roll_over.begin(authority, this.fleet, datetime.now(UTC))
    print(BEGUN.format(id=made.id))
    return 0


def _switch(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    print(SWITCHED.format(id=roll_over.switch(authority, datetime.now(UTC)).id))
    return 0


def _finish(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    gone = roll_over.leaving(authority, force=options.force)
    if gone.earlier and not options.force:
        for leaf in gone.earlier:
            until = f"valid until {leaf.not_after:%Y-%m-%d}" if leaf.not_after > now else f"over since {leaf.not_after:%Y-%m-%d}"
            print(f"client {leaf.name}: {leaf.serial}, {until} by this machine's clock, is dropped: has the client fetched its newer one?")
        if not confirmed("Go on?", options.yes, "`--yes` shuts them out"):
            print("nothing was changed")
            return 1
    roll_over.finish(authority, force=options.force)
    print(FINISHED.format(id=authority.cas.standing().signing))
    return 0


STEPS = {"begin": _begin, "switch": _switch, "finish": _finish}
