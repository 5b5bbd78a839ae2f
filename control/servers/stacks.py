"""The stacks of a fleet as the Docker engine of their host knows them: what starts, stops and restarts their containers, what these say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from control.servers.host_stack import HostStack
from control.servers.units import UNTIL_NOBODY_READS, JournalLine
from control.ssh.reach import Reach
from inventory.errors import PaddockError
from roles.role import SHELL
from roles.wording import one_line

CHANGE = """
# stack_change NAME DIRECTORY SECONDS VERB [CONTAINER…]: start, stop or restart of containers, of all where none is
# named. None is made of something else than before
stack_change() {
  project=paddock-$1
  directory=$2
  seconds=$3
  verb=$4
  shift 4
  stack_engine
  [ -f "$directory/compose.yml" ] || fail "it is not on this host: \\`paddock up\\` puts it there"
  stack_foreign "$project"
  if [ "$verb" != start ]; then
    said=$(stack_compose "$verb" "$@" 2>&1) || fail "$(printf '%s\\n' "$said" | tail -n 1)"
  fi
  [ "$verb" != stop ] || return 0
  said=$(stack_compose up --detach --no-recreate --no-build --pull never --wait --wait-timeout "$seconds" "$@" 2>&1) ||
    fail "$(stack_why "$said")"
}
"""

LOGS = """
# stack_logs NAME DIRECTORY SINCE COUNT FOLLOW [CONTAINER…]: what containers have said, and say where FOLLOW is yes
stack_logs() {
  project=paddock-$1
  directory=$2
  since=$3
  count=$4
  follow=$5
  shift 5
  [ -f "$directory/compose.yml" ] || fail "it is not on this host: \\`paddock up\\` puts it there"
  if [ -n "$since" ]; then
    since=$(LC_ALL=C systemd-analyze timestamp "$since" 2>/dev/null | sed -n 's/.*UNIX seconds: @//p')
    [ -n "$since" ] || fail "what --since says is no time"
    set -- --since "$since" "$@"
  else
    set -- --tail "$count" "$@"
  fi
  [ "$follow" = no ] || set -- --follow "$@"
  stack_compose logs --timestamps --no-color "$@" 2>&1
}
"""

SAID = re.compile(r"(\x1b\[2K)?(?P<container>[a-z0-9_-]+)-[0-9]+ +\| (?P<at>[0-9]{4}-[0-9T:-]{14}(\.[0-9]{1,9})?Z) ?(?P<text>.*)")
"""A line of `docker compose logs --timestamps`: `page-1  | 2026-11-30T14:45:00.123456789Z hello`. Compose 2.26
clears the terminal's line first, whatever its `--ansi` says."""


def change(reach: Reach, verb: str, meant: HostStack) -> None:
    """`start`, `stop` or `restart`; started ones are waited for until they are well. Raises PaddockError with what a container complained
    of where that fails."""
    stack = meant.stack
    call = shlex.join(("stack_change", stack.name, stack.directory, str(stack.ready_timeout_s), verb, *meant.only))
    try:
        reach.shell(meant.host, _script(CHANGE, call), f"{verb} {meant.name}")
    except PaddockError as error:
        raise PaddockError(f"{error}: `paddock logs {meant.host}/{meant.name}`") from None


def logs(reach: Reach, meant: HostStack, *, since: str, count: int, follow: bool) -> Iterator[JournalLine]:
    """What its containers have said, the last `count` lines of each unless `since` is given; with `follow`, and say."""
    stack = meant.stack
    call = shlex.join(("stack_logs", stack.name, stack.directory, since, str(count), "yes" if follow else "no", *meant.only))
    command = f"sh -c {shlex.quote(_script(LOGS, call))}"
    script = UNTIL_NOBODY_READS % command if follow else f"{command} </dev/null"
    at = 0
    for line in reach.lines(meant.host, f"sh -c {shlex.quote(script)}", "docker compose logs"):
        found = SAID.fullmatch(line)
        at = _microseconds(found["at"]) if found else at
        name = f"{meant.host}/{stack.name}/{found['container']}" if found else f"{meant.host}/{stack.name}"
        yield JournalLine(at, name, found["text"] if found else line)


def _microseconds(said: str) -> int:
    whole, _, part = said.removesuffix("Z").partition(".")
    try:
        return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 1_000_000 + int(part[:6].ljust(6, "0"))
    except ValueError:
        raise PaddockError(f"docker compose says what is no time: {one_line(said[:40])}") from None


def _script(functions: str, call: str) -> str:
    shared = "\n".join((SHELL / name).read_text() for name in ("base.sh", "stack.sh"))
    return f"set -eu\n{shared}\n{functions}\n{call}\n"
