"""Throw-away hosts for an inventory: systemd containers, or virtual machines where `lab:` asks for one.

examples:
  paddock lab up                  one for each host of the inventory
  paddock up --lab --yes          deploy to them
  paddock lab ssh ai              a shell on one
  paddock lab list                all lab hosts on this machine
  paddock lab down

Containers run on Docker; where no engine runs, one is installed and started, after saying so. A host with `lab: {cpu: no-avx}` or
`lab: {arch: arm64}` is a virtual machine, emulated by QEMU.
"""

from __future__ import annotations

import argparse

from cli.opening import action_of, inventory_path, limit_of
from cli.showing import table
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="up|down|list|ssh", required=True)
    up = action_of(actions, "up", "make them, or start those that stopped", "lab up\nlab up --limit ai")
    up.add_argument("--limit", action="append", default=[], metavar="HOST|ROLE|GROUP", help="only these")
    action_of(actions, "down", "take them away, with all that is on them", "lab down")
    action_of(actions, "list", "those of every inventory", "lab list")
    ssh = action_of(actions, "ssh", "a shell on one, or a command", "lab ssh ai\nlab ssh ai journalctl -u caddy")
    ssh.add_argument("host").completer = _hosts  # type: ignore[attr-defined]
    ssh.add_argument("command", nargs=argparse.REMAINDER, help="as to ssh")


def _hosts(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).hosts if name.startswith(prefix)]


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    if options.action == "list":
        found = hosts.list()
        heads = ("fleet", "host", "address", "state", "kind")
        print(table([heads, *((each.fleet, each.name, each.address, each.state, each.kind) for each in found)]))
        return 0
    fleet = load(inventory_path(options))
    if options.action == "ssh":
        return hosts.ssh(fleet.name, options.host, options.command)
    if options.action == "down":
        hosts.down(fleet.name)
    else:
        hosts.up(fleet, limit_of(options, fleet, inventory_path(options)))
    return 0
