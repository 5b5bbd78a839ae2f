"""`paddock certs list`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cli.opening import action_of, opened
from cli.showing import table
from control.certificate_list import Listed, listed
from control.pki import Authority
from control.secrets import Vault


def add(actions: Any) -> None:
    action = action_of(actions, "list", "every certificate: who holds it, until when, where it is", "certs list\ncerts list --json")
    action.add_argument("--json", action="store_true", help="for programs")
    lab_argument(action)
    action.set_defaults(act=_list)


def lab_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument("--lab", action="store_true", help="in the inventory's lab: its state, and its hosts")


def _list(options: argparse.Namespace) -> int:
    this, now = opened(options), datetime.now(UTC)
    authority = Authority(this.state, Vault(this.state))
    found = listed(authority, this.fleet, now)
    if options.json:
        print(json.dumps([_as_data(each) for each in found], indent=1))
    elif found:
        print(table([("kind", "name", "serial", "valid until", "days", "status", "where"), *map(_row, found)]))
    else:
        print("nobody is to have a certificate, and nobody has one")
    if not options.json and (advice := authority.advice(now)):
        print(f"\n{advice}")
    return 0


def _row(each: Listed) -> tuple[str, ...]:
    until = f"{each.until:%Y-%m-%d}" if each.until else "-"
    days = "-" if each.days_left is None else str(each.days_left)
    return each.kind, each.name, each.serial or "-", until, days, each.status, ", ".join(each.where) or "-"


def _as_data(each: Listed) -> dict[str, Any]:
    return {**asdict(each), "until": each.until.isoformat() if each.until else None}
