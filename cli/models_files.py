"""`paddock models pull` and `paddock models prune`: the files of models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cli.opening import Opened, action_of, ask_at_terminal, confirmed, inventory_path, limit_argument, opened
from cli.telling import Telling
from inventory.errors import UsageError
from inventory.load import load
from inventory.problems import did_you_mean, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from control.work import Work
    from inventory.schema import Fleet

GIB, MIB = 1 << 30, 1 << 20


def add(actions: Any) -> None:
    words = "fetch the models' files to the hosts now, or with --lock pin what they are"
    pull = action_of(actions, "pull", words, "models pull --lock\nmodels pull\nmodels pull qwen-35b --limit ai")
    pull.add_argument("model", nargs="*", help="only these").completer = _models  # type: ignore[attr-defined]
    pull.add_argument("--lock", action="store_true", help="write the lock beside the inventory: commits, sizes, digests. Asks no host")
    pull.set_defaults(act=_pull)
    prune = action_of(actions, "prune", "take away the models on the hosts that the inventory does not name", "models prune")
    prune.add_argument("--yes", "-y", action="store_true", help="do not ask")
    prune.set_defaults(act=_prune)
    for action in (pull, prune):
        limit_argument(action)


def _models(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).models if name.startswith(prefix)]


def _pull(options: argparse.Namespace) -> int:
    if options.lock:
        path = inventory_path(options)
        return _lock(path, load(path), options.model)  # the inventory's own, also where its lab is meant
    this = opened(options)
    _known(options.model, this.fleet, this.path)
    return _fetch(this, options.model)


def _known(models: list[str], fleet: Fleet, path: Path) -> None:
    for name in models:
        if name not in fleet.models:
            raise UsageError(f"no model of {path} is called {quoted(name)}{did_you_mean(name, fleet.models)}")


def _lock(path: Path, fleet: Fleet, models: list[str]) -> int:
    from control.model_pins import write_lock
    from control.secrets import Secrets, Vault
    from control.state import FleetState
    from inventory.model_lock import lock_path

    _known(models, fleet, path)
    telling = Telling(to_stderr=True)
    lock = write_lock(path, fleet, Secrets(Vault(FleetState.of(path, fleet.name))), models, telling.line)
    if not lock.models:
        print("there is nothing to pin: of each model the inventory says itself what its files are")
        return 0
    many = f"{len(lock.models)} model{'' if len(lock.models) == 1 else 's'}"
    print(f"{lock_path(path)}: {many}. It belongs into git, as the inventory does")
    return 0


def _fetch(this: Opened, models: list[str]) -> int:
    from control.model_files import pulled

    def to_do(name: str, work: Work) -> Work:
        wanted = [model for model in this.fleet.served_models(name) if not models or model in models]
        return pulled(work, {path for model in wanted for path in this.fleet.model_paths(name, model)})

    def agreed(works: Mapping[str, Work]) -> bool:
        print(*(f"{name}: {change.id}" for name, work in works.items() for change in work.drift.changes), sep="\n")
        return True

    return _change(this, "models pull", to_do, agreed, "every model that a host serves is there")


def _prune(options: argparse.Namespace) -> int:
    from control.model_files import left, pruned

    def agreed(works: Mapping[str, Work]) -> bool:
        for name, work in works.items():
            print(f"{name}: {in_words(sum(left(work).values()))}")
            for path, size in left(work).items():
                print(f"  - {path}  {in_words(size)}")
        return confirmed("Take them away?", options.yes, "`paddock models prune --yes` takes away what is listed here")

    nothing = "nothing is there that the inventory does not name"
    return _change(opened(options), "models prune", lambda name, work: pruned(work), agreed, nothing)


def _change(this: Opened, verb: str, to_do: Callable[[str, Work], Work], agreed: Callable[[Mapping[str, Work]], bool], nothing: str) -> int:
    """Looks at the hosts, and carries out on each what `to_do` leaves of the work there, if that is `agreed`; or says `nothing`."""
    from control.deployment import Deployment
    from control.lock import operator_lock

    telling = Telling()
    with operator_lock(this.state, verb):
        deployment = Deployment(this.fleet, this.state, this.hosts, telling.of, ask_at_terminal)
        with deployment.connected():
            deployment.survey()
            every = {name: to_do(name, work) for name, work in deployment.work.items()}
            works = {name: work for name, work in every.items() if work.drift.changes}
            if works and not agreed(works):
                telling.error("nothing was changed")
                return 1
            if works:
                deployment.carry_out(works)
        telling.failures(deployment.failures)
    if not works and not deployment.failures:
        print(nothing)
    return 1 if deployment.failures else 0


def in_words(size: int) -> str:
    """`41.2 GiB`, `13 MiB`: bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{-(-size // MIB)} MiB"
