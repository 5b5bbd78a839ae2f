"""`paddock certs roll-over begin`, `switch` and `finish`: from one CA to another, without shutting anybody out."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from cli.certs_changing import yes_argument
from cli.certs_list import lab_argument
from cli.opening import Opened, action_of, confirmed, opened
from control import roll_over
from control.pki import Authority
from control.secrets import Vault
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


def add(actions: Any) -> None:
    words = "change to another CA in three steps: begin (both trusted, the old one signs), switch (the new one signs), finish"
    action = action_of(actions, "roll-over", words, "certs roll-over begin\ncerts roll-over switch\ncerts roll-over finish")
    action.add_argument("step", choices=tuple(STEPS), help="each says what comes after it")
    action.add_argument("--force", action="store_true", help="finish: also while certificates in use are another CA's")
    yes_argument(action)
    lab_argument(action)
    action.set_defaults(act=_step)


def _step(options: argparse.Namespace) -> int:
    from control.lock import operator_lock

    if options.force and options.step != "finish":
        raise UsageError(f"--force is for `finish` alone: {options.step} shuts nobody out")
    this = opened(options)
    with operator_lock(this.state, f"certs roll-over {options.step}"):
        return STEPS[options.step](this, Authority(this.state, Vault(this.state)), options)


def _begin(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    made = roll_over.begin(authority, this.fleet, datetime.now(UTC))
    print(BEGUN.format(id=made.id))
    return 0


def _switch(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    print(SWITCHED.format(id=roll_over.switch(authority).id))
    return 0


def _finish(this: Opened, authority: Authority, options: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    gone = roll_over.leaving(authority, now, force=options.force)
    if gone.earlier and not options.force:
        for leaf in gone.earlier:
            print(
                f"client {leaf.name}: {leaf.serial}, valid until {leaf.not_after:%Y-%m-%d}, will be shut out: has it fetched its newer one?"
            )
        if not confirmed("Go on?", options.yes, "`--yes` shuts them out"):
            print("nothing was changed")
            return 1
    roll_over.finish(authority, now, force=options.force)
    print(FINISHED.format(id=authority.cas.standing().signing))
    return 0


STEPS = {"begin": _begin, "switch": _switch, "finish": _finish}
