"""Fetch the models' files to the hosts now; with --lock, pin their commits and digests instead.

examples:
  paddock models pull --lock
  paddock models pull
  paddock models pull qwen-35b --limit ai

Refuses a model with tensors of a type that the llama.cpp of its host does not load. Exit codes: 0 done, 1 not.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cli.arguments import Opened, inventory_path, kept_inventory, limit_argument, opened, steal_lock_argument
from cli.asking import ask_at_terminal
from cli.views.progress import Progress
from inventory.errors import UsageError
from inventory.load import load
from roles.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from control.deployment.work import Work
    from control.state.fleet import FleetState
    from inventory.fleet import Fleet, Host


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", nargs="*", help="only these models").completer = _models  # type: ignore[attr-defined]
    command.add_argument(
        "--lock", action="store_true", help="write the lock beside the inventory: commits, sizes, digests. Connects to no host"
    )
    limit_argument(command)
    steal_lock_argument(command)


def _models(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).models if name.startswith(prefix)]


def run(options: argparse.Namespace) -> int:
    if options.lock:
        path = kept_inventory(options)
        return _lock(path, load(path), options.model)  # the inventory's own, also where its lab is meant
    this = opened(options)
    _known(options.model, this.fleet, this.path)
    return _fetch(this, options.model, steals=options.steal_lock)


def _known(models: list[str], fleet: Fleet, path: Path) -> None:
    for name in models:
        if name not in fleet.models:
            raise UsageError(f"no model of {path} is called {quoted(name)}{did_you_mean(name, fleet.models)}")


def _lock(path: Path, fleet: Fleet, models: list[str]) -> int:
    from control.models.lock import write_lock
    from control.state.fleet import FleetState
    from control.state.secrets import Secrets, Vault
    from inventory.model_lock import lock_path

    _known(models, fleet, path)
    progress, state = Progress(to_stderr=True), FleetState.of(path, fleet.name)
    lock = write_lock(path, fleet, Secrets(Vault(state)), models, progress.line)
    if not lock.models:
        print("there is nothing to pin: of each model the inventory says itself what its files are")
        return 0
    many = f"{len(lock.models)} model{'' if len(lock.models) == 1 else 's'}"
    print(f"{lock_path(path)}: {many}. It belongs into git, as the inventory does")
    fleet = load(path)
    return 1 if _tell_unloadable(fleet, state, tuple(fleet.hosts.values()), models, ask=True) else 0


def _tell_unloadable(fleet: Fleet, state: FleetState, hosts: tuple[Host, ...], models: list[str], *, ask: bool) -> bool:
    """Says which of the models the llama.cpp of these hosts would not load, or of which it is unknown, and gives back whether there are any
    of the first."""
    from control.deployment.fit import loadable_types
    from control.state.secrets import Secrets, Vault

    found = loadable_types(fleet, state, hosts, models or fleet.models, Secrets(Vault(state)), ask=ask)
    print(*(f"{line}\n" for line in (*found.unchecked, *found.refused)), sep="", end="", file=sys.stderr)
    return bool(found.refused)


def _fetch(this: Opened, models: list[str], *, steals: bool) -> int:
    from control.deployment.known_options import require_known_options
    from control.deployment.model_files import pulled

    require_known_options(this.positions, this.fleet)
    if _tell_unloadable(this.fleet, this.state, this.hosts, models, ask=False):
        print("nothing was fetched", file=sys.stderr)
        return 1

    def to_do(name: str, work: Work) -> Work:
        wanted = [model for model in this.fleet.served_models(name) if not models or model in models]
        return pulled(work, {path for model in wanted for path in this.fleet.model_paths(name, model)})

    def agree(works: Mapping[str, Work]) -> bool:
        print(*(f"{name}: {change.id}" for name, work in works.items() for change in work.drift.changes), sep="\n")
        return True

    return carried_out(this, "models pull", to_do, agree, "every model that a host serves is there", steals=steals)


def carried_out(
    this: Opened,
    verb: str,
    part: Callable[[str, Work], Work],
    agree: Callable[[Mapping[str, Work]], bool],
    nothing: str,
    *,
    steals: bool,
) -> int:
    """Carries out what `part` leaves of the work on each host, if that is agreed; or says `nothing`. For the exit code."""
    from control.deployment.partial import carry_out_part
    from control.lifecycle.recording import recording

    progress = Progress()
    with recording(this.state, verb, progress.error) as record:
        done = carry_out_part(
            *(this.fleet, this.state, this.hosts, verb, part),
            agree=agree,
            changing=record.opens,
            tell=progress.of,
            ask=ask_at_terminal,
            steals=steals,
        )
    if not done.agreed:
        progress.error("nothing was changed")
        return 1
    progress.failures(done.failures)
    if not done.work and not done.failures:
        print(nothing)
    return 1 if done.failures else 0
