"""What most verbs begin with: the inventory that is meant, its fleet, its state, and the hosts that are meant."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.state import FleetState
from inventory.errors import UsageError
from inventory.load import load
from inventory.schema import Fleet, Host

DEMO = Path(__file__).parent.parent / "inventory" / "demo.yml"


@dataclass(frozen=True)
class Opened:
    path: Path
    fleet: Fleet
    state: FleetState
    hosts: tuple[Host, ...]
    replaced: tuple[str, ...] = ()
    """In a lab: what stands in for what, a sentence each."""


def inventory_argument(command: argparse.ArgumentParser, default: object) -> None:
    argument = command.add_argument(
        "-i",
        "--inventory",
        type=Path,
        default=default,
        metavar="FILE",
        help="the inventory; else PADDOCK_INVENTORY, else inventory.yml, else the demo",
    )
    argument.completer = None  # type: ignore[attr-defined]  # file names


def inventory_path(options: argparse.Namespace) -> Path:
    if options.inventory:
        return Path(options.inventory)
    if named := os.environ.get("PADDOCK_INVENTORY"):
        return Path(named)
    return Path("inventory.yml") if Path("inventory.yml").exists() else DEMO


def action_of(actions: Any, name: str, words: str, examples: str = "") -> argparse.ArgumentParser:
    """The parser of one of a verb's actions; `examples` has a line each, as they are typed after `paddock`."""
    lines = "".join(f"  paddock {line.strip()}\n" for line in examples.strip().splitlines())
    action: argparse.ArgumentParser = actions.add_parser(
        name,
        help=words,
        description=words[0].upper() + words[1:] + ".",
        epilog=f"examples:\n{lines}" if lines else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    inventory_argument(action, default=argparse.SUPPRESS)
    return action


def limit_argument(command: argparse.ArgumentParser) -> None:
    limit = command.add_argument(
        "--limit", action="append", default=[], metavar="HOST|ROLE|GROUP", help="only these hosts; may be given again"
    )
    limit.completer = _names  # type: ignore[attr-defined]
    command.add_argument(
        "--lab", action="store_true", help="the inventory's lab hosts in place of its machines (`paddock lab up` makes them)"
    )


def _names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    fleet = load(inventory_path(parsed_args))
    return sorted(name for name in _all_names(fleet) if name.startswith(prefix))


def opened(options: argparse.Namespace) -> Opened:
    """Raises InventoryError for what is wrong with the file, UsageError for a limit that nothing matches."""
    path = inventory_path(options)
    fleet, replaced = load(path), tuple[str, ...]()
    only = limit_of(options, fleet, path)
    if getattr(options, "lab", False):
        from lab import hosts as lab_hosts
        from lab.overlay import overlay

        fleet, replaced = overlay(fleet, {each.name: each for each in lab_hosts.list(fleet.name)})
    return Opened(path, fleet, FleetState.of(path, fleet.name), tuple(fleet.limited(only)), replaced)


def require_known_options(this: Opened) -> None:
    """Fetches the sources of llama.cpp whose options nobody has looked at yet. Raises InventoryError for a preset that its host's version
    would not take."""
    import control.cooperative  # isort: skip - before what fetches
    from control.options import checked
    from control.payload import Download

    assert control.cooperative
    checked(this.path, this.fleet, Download())


def limit_of(options: argparse.Namespace, fleet: Fleet, path: Path) -> frozenset[str]:
    """The names that `--limit` gives, none where it was not given. Raises UsageError for one that nothing is called by."""
    only = frozenset(name for each in getattr(options, "limit", []) for name in each.split(","))
    known = _all_names(fleet)
    if unknown := sorted(only - known):
        raise UsageError(
            f"--limit {','.join(unknown)}: no host, group or role of {path} is called so; there are {', '.join(sorted(known))}"
        )
    return only


def _all_names(fleet: Fleet) -> set[str]:
    return {name for host in fleet.hosts.values() for name in (host.name, *host.groups, *host.carried)}


def confirmed(question: str, yes: bool, otherwise: str) -> bool:
    """Whether the person says yes. Raises UsageError where nobody can be asked and `--yes` was not given."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is here to answer, and Paddock does not guess: {otherwise}")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def ask_at_terminal(question: str) -> bool:
    """No, where nobody is there to look at a host key: that host fails, the others need not."""
    return sys.stdin.isatty() and confirmed(question, False, "")
