"""The arguments that verbs share. They open the inventory, its fleet and its state, and select the hosts."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.asking import ask_at_terminal
from control.state.fleet import IN_A_CLONE, FleetState, tell, write_atomically
from inventory.errors import UsageError
from inventory.fleet import Fleet, Host
from inventory.load import Positions, load, loaded

DEMO = Path(__file__).parent.parent / "inventory" / "demo.yml"
DEMO_HERE = Path(DEMO.name)
"""Where Paddock is installed, a verb that keeps state copies the demo to the working directory. In a clone DEMO itself is used."""


@dataclass(frozen=True)
class Opened:
    fleet: Fleet
    positions: Positions
    state: FleetState
    hosts: tuple[Host, ...]
    replaced: tuple[str, ...] = ()
    """In a lab: what stands in for what, a sentence each."""
    named: tuple[str, ...] = ()
    """How the command line said which inventory is meant, for what is to be run next: `-i home.yml`."""
    lab: bool = False

    @property
    def path(self) -> Path:
        return self.positions.path


def inventory_argument(command: argparse.ArgumentParser, default: object) -> None:
    argument = command.add_argument(
        "-i",
        "--inventory",
        type=Path,
        default=default,
        metavar="FILE",
        help="the inventory; by default PADDOCK_INVENTORY, else inventory.yml, else the demo",
    )
    argument.completer = None  # type: ignore[attr-defined]  # file names


def inventory_path(options: argparse.Namespace) -> Path:
    return _own_inventory(options) or DEMO


def _own_inventory(options: argparse.Namespace) -> Path | None:
    """None where there is only the demo as it was installed."""
    if named := options.inventory or os.environ.get("PADDOCK_INVENTORY"):
        return Path(named)
    if (path := Path("inventory.yml")).exists():
        return path
    return DEMO if IN_A_CLONE else DEMO_HERE if DEMO_HERE.exists() else None


def kept_inventory(options: argparse.Namespace) -> Path:
    """The inventory's file, where state may lie beside it: the installed demo is copied to the working directory first."""
    if own := _own_inventory(options):
        return own
    with suppress(FileExistsError):
        write_atomically(DEMO_HERE, DEMO.read_bytes(), 0o644, exclusive=True)
        tell(f"{DEMO_HERE}: no inventory was named, so the demo was copied to this directory")
    return DEMO_HERE


def limit_argument(command: argparse.ArgumentParser) -> None:
    limit = command.add_argument("--limit", action="append", default=[], metavar="HOST|ROLE|GROUP", help="only these hosts; repeatable")
    limit.completer = _names  # type: ignore[attr-defined]
    command.add_argument(
        "--lab", action="store_true", help="use the inventory's lab hosts instead of its machines (`paddock lab up` makes them)"
    )


def deep_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--deep", action="store_true", help="read models and releases whole, instead of what was recorded of them; slow")


def take_over_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--take-over",
        action="store_true",
        help="also hosts of another fleet, or of another or a newer state of this one, which are refused otherwise",
    )


def steal_lock_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--steal-lock",
        action="store_true",
        help="also hosts that a run on another machine is changing, for one that is known to be dead: it changes them no more",
    )


def yes_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    fleet = load(inventory_path(parsed_args))
    return sorted(name for name in _all_names(fleet) if name.startswith(prefix))


def opened(options: argparse.Namespace, *, only_read: bool = False) -> Opened:
    """The demo is copied to the working directory where there is no other inventory, unless it is `only_read`.

    Raises InventoryError for what is wrong with the file, UsageError for a limit that nothing matches.
    """
    path = inventory_path(options) if only_read else kept_inventory(options)
    this, replaced = loaded(path), tuple[str, ...]()
    fleet = this.fleet
    only = limit_of(options, fleet, path)
    if getattr(options, "lab", False):
        from lab import hosts as lab_hosts
        from lab.overlay import overlay

        fleet, replaced = overlay(fleet, {each.name: each for each in lab_hosts.list(fleet.name)})
    state = FleetState.of(_own_inventory(options) or DEMO_HERE, fleet.name, ask=ask_at_terminal)
    named = ("-i", str(options.inventory)) if options.inventory else ()
    return Opened(fleet, this.positions, state, tuple(fleet.limited(only)), replaced, named, getattr(options, "lab", False))


def of_lab(this: Opened) -> FleetState | None:
    """The state of the lab of a fleet that was opened; None where it is the lab's that was."""
    from lab.overlay import name_in_lab

    return None if this.lab else FleetState.of(this.state.inventory, name_in_lab(this.fleet.name))


def limit_of(options: argparse.Namespace, fleet: Fleet, path: Path) -> frozenset[str]:
    """The names that `--limit` gives, none where it was not given. Raises UsageError for one that nothing is called by."""
    only = frozenset(name for each in getattr(options, "limit", []) for name in each.split(","))
    known = _all_names(fleet)
    if unknown := sorted(only - known):
        raise UsageError(f"--limit {','.join(unknown)}: no host, group or role of {path} has that name; it has {', '.join(sorted(known))}")
    return only


def _all_names(fleet: Fleet) -> set[str]:
    return {name for host in fleet.hosts.values() for name in (host.name, *host.groups, *host.carried)}
