"""List, issue, renew, revoke, export and import certificates, and change to another CA.

examples:
  paddock certs list                             who holds one, until when, and where it is
  paddock certs issue phone                      lets a client in
  paddock certs export phone --p12               what it takes away, for a browser or a phone
  paddock certs revoke phone                     throws it out, everywhere, now
  paddock certs renew --all
  paddock certs roll-over begin                  the first of three steps to another CA
  paddock certs import --ca root-ca.pem --client laptop=client.crt

`paddock up` issues what is missing and renews with a third of its life left, so that only the exceptions are done here.
"""

from __future__ import annotations

import argparse

from cli import certs_changing, certs_importing, certs_list, certs_roll_over, certs_taking

PARTS = (certs_list, certs_changing, certs_taking, certs_importing, certs_roll_over)


def arguments(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    for part in PARTS:
        part.add(actions)
    actions.metavar = "|".join(actions.choices)


def run(options: argparse.Namespace) -> int:
    return int(options.act(options))
