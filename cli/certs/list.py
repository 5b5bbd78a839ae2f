"""List each certificate with its holder, expiry date and hosts.

examples:
  paddock certs list
  paddock certs list --json
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from cli.arguments import opened
from cli.certs.admission import lab_argument
from cli.views.certificates import as_data, lines
from control.pki.authority import Authority
from control.pki.listing import listed
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    this, now = opened(options), datetime.now(UTC)
    authority = Authority(this.state, Vault(this.state))
    found = listed(authority, this.fleet, now)
    if options.json:
        print(json.dumps([as_data(each) for each in found], indent=1))
    elif found:
        print(lines(found))
    else:
        print("no certificates: the inventory has no clients and no sites")
    if not options.json and (advice := authority.advice(now)):
        print(f"\n{advice}")
    return 0
