"""Revoke all certificates of a client, on every host, also while another run is at work; it stays shut out until `certs issue`.

examples:
  paddock certs revoke phone
  paddock certs revoke laptop --earlier
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime

from cli.arguments import opened
from cli.certs.admission import changed, clients, lab_argument, push_argument, require_names
from control.pki.authority import Authority
from inventory.errors import PaddockError
from roles.wording import did_you_mean


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="+", help="the clients").completer = clients  # type: ignore[attr-defined]
    command.add_argument("--earlier", action="store_true", help="revoke only the certificates from before the last renewal")
    command.add_argument("--yes", "-y", action="store_true", help=argparse.SUPPRESS)  # asks nothing: for scripts that always pass it
    push_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    require_names(options.name)

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        for name in options.name:
            if not authority.leaves.record("client", name).leaves and not authority.leaves.record("client", name).revoked:
                held = [each for kind, each in authority.leaves.names() if kind == "client"]
                raise PaddockError(f"client {name}: has no certificate that could be revoked{did_you_mean(name, held)}")
        for name in options.name:
            if options.earlier:
                gone = authority.revoke_earlier(name)
                yield f"client {name}: " + (
                    f"{', '.join(leaf.serial for leaf in gone)} is revoked" if gone else "holds no earlier certificate"
                )
            else:
                was_in = authority.revoke(name, now)
                yield f"client {name}: {'revoked' if was_in else 'was revoked already'}, and stays so until `paddock certs issue {name}`"

    # Not under the operator's lock: a run that holds it takes in what is revoked before it lands who is let in.
    return changed(this, "certs revoke", act, push=not options.no_push, signs=False, of_clients=True)
