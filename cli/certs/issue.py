"""Add a client, or admit a revoked one again: writes the inventory, issues a certificate, updates the hosts.

examples:
  paddock certs issue phone
  paddock certs issue ann --days 30 --admin --yes
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import UTC, datetime

from cli.arguments import opened, steal_lock_argument, yes_argument
from cli.certs.admission import changed, in_inventory, lab_argument, push_argument, require_names
from control.pki.authority import Authority
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="the client's name")
    command.add_argument("--days", metavar="N", help="validity of its certificates in days, at most 180; written to the inventory")
    command.add_argument("--admin", action="store_true", help="allow it to restart servers and change presets; written to the inventory")
    yes_argument(command)
    push_argument(command)
    steal_lock_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.state.lock import operator_lock

    this = opened(options)
    require_names([options.name])
    with operator_lock(this.state, "certs issue", steals=options.steal_lock) as holder:
        Authority(this.state, Vault(this.state)).require_signing(this.fleet, datetime.now(UTC))  # before the inventory lets anybody in
        said = {"days": options.days, "admin": "true" if options.admin else None}
        entry = {key: value for key, value in said.items() if value is not None}
        if options.name not in this.fleet.clients:
            entry = {"days": "180", **entry}
        reopened = in_inventory(this, {options.name: entry}, options)
        if reopened is None:
            return 1

        def act(authority: Authority, now: datetime) -> Iterable[str]:
            done = authority.admit(reopened.fleet, options.name, now)
            subject, _, before = done.partition(": ")
            again = f"client {options.name}: is already admitted (`paddock certs renew {options.name}` gives it a new certificate)"
            yield f"{subject}: a certificate was issued (before: {before})" if done else again
            if not list(reopened.fleet.entrances(options.name)):
                yield f"no site lets {options.name} in: add it to the `clients` of one"

        code = changed(reopened, "certs issue", act, push=not options.no_push, of_clients=True, holder=holder)
    print(f"`paddock certs export {options.name}` writes the files that it needs")
    return code
