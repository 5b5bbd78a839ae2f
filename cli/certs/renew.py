"""Issue new certificates before the old ones expire; a client's previous certificate stays valid until it expires, a host's does not.

examples:
  paddock certs renew
  paddock certs renew laptop ai.home.example
  paddock certs renew --all
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime

from cli.arguments import inventory_path, opened, steal_lock_argument
from cli.certs.admission import changed, clock_argument, lab_argument, push_argument
from control.pki.authority import Authority
from control.pki.leaves import subjects_of
from control.state.secrets import Vault
from inventory.errors import UsageError
from inventory.load import load
from roles.wording import did_you_mean


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="*", help="clients, sites and hosts; by default those with less than a third of their life left"
    ).completer = holders  # type: ignore[attr-defined]
    command.add_argument("--all", action="store_true", help="every client, every site and every host that has one")
    command.add_argument("--yes", "-y", action="store_true", help=argparse.SUPPRESS)  # asks nothing: for scripts that always pass it
    clock_argument(command)
    push_argument(command)
    steal_lock_argument(command)
    lab_argument(command)


def holders(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return sorted(each.name for each in subjects_of(load(inventory_path(parsed_args))) if each.name.startswith(prefix))


def run(options: argparse.Namespace) -> int:
    from control.state.lock import operator_lock

    this = opened(options)
    if options.all and options.name:
        raise UsageError("--all is every client, site and host: leave the names out")
    authority = Authority(this.state, Vault(this.state))
    known = [each.name for each in subjects_of(this.fleet)]
    for name in options.name:
        if name not in known:
            words = f"no client, site or host of {this.path} that the fleet signs for has that name"
            raise UsageError(f"{name}: {words}{did_you_mean(name, known)}")
    revoked = authority.revoked(this.fleet)
    kept = (each.name for each in subjects_of(this.fleet) if each.kind != "client" or each.name not in revoked)
    names = list(dict.fromkeys(kept)) if options.all else options.name

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        lines = authority.renew(this.fleet, names, now) if names else authority.issue(this.fleet, now)
        return lines or ["nothing is due: `paddock certs renew --all` renews everything all the same"]

    with operator_lock(this.state, "certs renew", steals=options.steal_lock) as holder:
        return changed(this, "certs renew", act, push=not options.no_push, clock_is_right=options.clock_is_right, holder=holder)
