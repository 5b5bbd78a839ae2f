"""Steps carried out on a host in one command: a constant shell line, and through standard input one archive of steps and files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Generator, Iterable
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.connectors.util import CommandOutput, OutputLine

from inventory.errors import PaddockError
from resources import scripts
from resources.lease import LASTS_S
from resources.steps import Steps, call

RECEIVE = r"""echo "paddock-does: " >&2; set -eu; umask 077; LC_ALL=C; export LC_ALL; at=; stage=; lease_kept=
trap 'rc=$?; [ $rc = 0 ] || ! command -v undone >/dev/null || { full_disks >&2; undone; }
  [ -z "$lease_kept" ] || (lease_renewed) || true
  [ -z "$stage" ] || rm -rf "$stage"; rmdir /var/lib/paddock 2>/dev/null || true; [ $rc = 0 ] || echo "paddock-at: $at" >&2' EXIT
for own in /run/paddock /var/lib/paddock; do at=directory:$own
  [ ! -L "$own" ] || { echo "it is a symbolic link to $(readlink "$own"): remove it" >&2; exit 1; }
  mkdir -p "$own"; chmod 755 "$own"
done
[ ! -L /run/paddock/lock ] || rm -f /run/paddock/lock
exec 9>>/run/paddock/lock; flock -w 300 9 || { echo "another run has been changing this host for five minutes" >&2; exit 75; }
rm -rf /var/lib/paddock/stage.*; stage=$(mktemp -d /var/lib/paddock/stage.XXXXXX)
said=$(base64 -d | tar -xzp -C "$stage" 2>&1) || { printf '%s\n' "$said" | head -n 1 >&2; exit 1; }
sync -f "$stage"; at=
. "$stage/host.sh"; . "$stage/steps"
"""


@operation()
def apply(steps: Steps | Callable[[], Steps]) -> Generator[StringCommand, None, None]:
    """Carries the steps out, in order, as root; the first that fails ends them. Those that are made at the last moment may be none. None is
    carried out where what travels with them cannot be had."""
    try:
        made = steps() if callable(steps) else steps
        if made:
            yield command(made)
    except PaddockError as error:
        yield Failure([str(error)])


def command(steps: Steps) -> StringCommand:
    """What carries the steps out, while the run has its lease of the host: the steps themselves go through standard input."""
    work = host.data.get("work")
    if lease := work.lease if work else "":
        steps = Steps([call("lease_keep", lease, LASTS_S), *steps.calls], steps.members)
    return StringCommand("sh", "-c", quote(RECEIVE), _stdin=base64.encodebytes(steps.archive(scripts().encode())).decode())


class Failure(StringCommand):
    """Fails with these lines as its errors, without asking the host: that may be the one that does not answer."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__("false")
        self.lines = list(lines)

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        return False, CommandOutput([OutputLine("stderr", line) for line in self.lines])


@operation()
def stage(
    needs: Collection[str] = (), one_of: Collection[Collection[str]] = (), words: str = "was not started: it needs"
) -> Generator[StringCommand, None, None]:
    """Does nothing, on every host: pyinfra sorts what hosts do not share by depth, not by line, so that a role needs a shared slot to wait
    at.

    Where a host of those that this one needs has failed by then, it fails too, and where all have of which it needs `one_of`.
    """
    if failed := ", ".join(missing({each.name for each in host.state.failed_hosts}, needs, one_of)):
        yield StringCommand("echo", quote(f"{words} {failed}, which failed") + " >&2;", "exit", "1")


def missing(failed: set[str], needs: Collection[str], one_of: Collection[Collection[str]]) -> list[str]:
    """The failed hosts for want of which a role cannot go on."""
    return sorted(failed.intersection(needs).union(*(names for names in one_of if failed.issuperset(names))))
