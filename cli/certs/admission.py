"""Shared by `issue`, `renew`, `revoke` and `import`: change a client's access in the inventory, in the state and on the hosts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.arguments import Opened, opened
from cli.asking import agreed, ask_at_terminal
from cli.views.progress import Progress
from control.pki.authority import Authority
from control.state.lineage import lineage_of
from control.state.lock import Holder
from control.state.secrets import Vault
from inventory.errors import PaddockError, UsageError
from roles.role import LABEL

if TYPE_CHECKING:
    from control.deployment.deployment import Changing

LATER = "the hosts are not updated yet: run `paddock up`"


def lab_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument("--lab", action="store_true", help="use the inventory's lab: its state and its hosts")


def push_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument("--no-push", action="store_true", help="do not update the hosts; the next `paddock up` does")


def clock_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--clock-is-right",
        action="store_true",
        help="this machine's clock is right: what begins in the future was made under a wrong one, and is replaced",
    )


def require_names(names: Iterable[str]) -> None:
    """Raises UsageError for what no client can be called."""
    for name in names:
        if not re.fullmatch(LABEL, name):
            raise UsageError(f'"{name}" cannot be the name of a client: lower-case letters, digits and inner hyphens, 63 at most')


def clients(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The names of clients, for completion: those of the inventory, and those that hold a certificate."""
    this = opened(parsed_args, only_read=True)
    held = {name for kind, name in Authority(this.state, Vault(this.state)).leaves.names() if kind == "client"}
    return sorted(name for name in held | set(this.fleet.clients) if name.startswith(prefix))


def in_inventory(this: Opened, entries: Mapping[str, Mapping[str, str]], options: argparse.Namespace) -> Opened | None:
    """What the inventory is once it says this of these clients. Shows the change and asks; None where the answer is no."""
    from control.editing.clients import with_clients

    candidate = with_clients(this.path, entries)
    if candidate is None:
        return this
    if not agreed(candidate, "Write it?", options.yes, "`--yes` writes it into the inventory"):
        return None
    candidate.keep()
    return opened(options)


def changed(
    this: Opened,
    verb: str,
    act: Callable[[Authority, datetime], Iterable[str]],
    *,
    push: bool,
    signs: bool = True,
    clock_is_right: bool = False,
    of_clients: bool = False,
    holder: Holder | None = None,
) -> int:
    """Changes the state, says what was done, and has the hosts know of it, for the exit code. `verb` is what the history calls it.

    Where that `signs`, hosts are asked for their time before: nothing is changed where they say another one. With `of_clients` only hosts
    are asked that clients' certificates matter to. Without a `holder` of the fleet's lock it is done beside a run that is at work.
    """
    from control.lifecycle.recording import recording

    progress, done = Progress(), False
    with recording(this.state, verb, progress.error) as record:

        def change() -> None:
            nonlocal done
            before, lines = lineage_of(this.state), []
            for line in act(Authority(this.state, Vault(this.state), clock_is_right=clock_is_right), datetime.now(UTC)):
                progress.line(line)
                lines.append(line)
            if lineage_of(this.state) != before:
                record.notes(lines)
            done = True

        if not push:
            change()
            progress.line(LATER)
            return 0
        if not signs:
            change()
        try:
            return _pushed(this, progress, record.opens, change if signs else None, of_clients, holder)
        except PaddockError as error:
            if not done:
                raise
            record.outcome = "failed"
            progress.error(f"{error}\n{LATER}")
            return 1


def _pushed(
    this: Opened, progress: Progress, changing: Changing, first: Callable[[], None] | None, of_clients: bool, holder: Holder | None
) -> int:
    from control.deployment.admission import push

    pushed = push(
        *(this.fleet, this.state),
        tell=progress.line,
        tell_host=progress.of,
        ask=ask_at_terminal,
        changing=changing,
        first=first,
        of_clients=of_clients,
        holder=holder,
    )
    if not pushed.hosts:
        progress.line("no host of the fleet carries certificates")
    progress.failures(pushed.failures)
    if pushed.reached:
        progress.line(f"in force on {', '.join(pushed.reached)}")
    if pushed.failures:
        progress.error(f"not on {', '.join(pushed.failures)}: the next `paddock up` does it there")
    return 1 if pushed.failures else 0
