"""The database of a gateway, copied and put back by the gateway's own command on its host, as root. What it answers is checked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

from pydantic import ValidationError

from control.lifecycle.archive import Record
from control.ssh.reach import Reach
from inventory.bounds import from_json
from inventory.errors import PaddockError
from roles.users import ADMIN_SOCKET, COMMAND, DATABASE_UNIT, UNIT

COPIES = shlex.join((*COMMAND, "copies"))
THERE = f"""cd / || exit
[ -x {shlex.quote(COMMAND[0])} ] || {{ echo 'no gateway is installed there: `paddock up` does that' >&2; exit 1; }}
"""

SERVES_S = 120
"""How long a gateway may take to answer again."""

RESTARTS = 5
"""So often it may be started again by itself."""

STARTED = f"""systemctl start {UNIT} || true
for _ in $(seq {SERVES_S * 2}); do
  ! curl --silent --fail --max-time 5 --unix-socket {ADMIN_SOCKET} http://gateway/livez >/dev/null || exit 0
  [ "$(systemctl show -P NRestarts {UNIT})" -lt {RESTARTS} ] || break
  sleep 0.5
done
echo "it does not answer: $(journalctl -q -o cat -n 1 _SYSTEMD_UNIT={UNIT})" >&2
exit 1
"""


@dataclass(frozen=True)
class Replaced:
    """`revoked` are keys that the copy had let in and that stay out; `known` is whether the database before could say which."""

    revoked: int
    known: bool


@dataclass(frozen=True)
class HostDatabase:
    """Every method raises PaddockError with what the host says."""

    reach: Reach
    host: str

    def make(self) -> Record:
        """A copy on the host that was restored and counted there."""
        return self._record(self._said("make --json", "the copy of its database"))

    def blocks(self, record: Record) -> Iterator[bytes]:
        return self.reach.blocks(self.host, _sh(f"{THERE}exec {COPIES} send {record.name} </dev/null"), "the copy of its database")

    def remove(self, record: Record) -> None:
        self._said(f"remove {record.name}", "the copy of its database")

    def receive(self) -> AbstractContextManager[Callable[[bytes], None]]:
        """What takes a line with the record, and then the copy."""
        return self.reach.feed(self.host, _sh(f"{THERE}exec {COPIES} receive"), "the copy of its database")

    def put_back(self, record: Record) -> Replaced:
        """While its gateway is stopped. Where the copy cannot be restored, or the gateway does not answer with it, the database before is
        in its place again and serves."""
        self._on(f"systemctl stop {UNIT}", "its gateway")
        try:
            said = self._said(f"put-back --json {record.name}", "its database")
        except BaseException:
            with suppress(PaddockError):
                self._on(STARTED, "its gateway")
            raise
        try:
            self._on(f"systemctl try-restart {DATABASE_UNIT} 2>/dev/null || true\n{STARTED}", "its gateway")
        except PaddockError as error:
            self._on(f"systemctl stop {UNIT}", "its gateway")
            self._said("undo", "its database")
            self._on(STARTED, "its gateway")
            raise PaddockError(f"{error}. With the copy it does not serve, so the database of before is in its place again") from None
        self._said("settle", "its database")
        return _replaced(said, self.host)

    def _said(self, words: str, doing: str) -> str:
        return "\n".join(self._on(f"{THERE}exec {COPIES} {words} </dev/null", doing))

    def _on(self, script: str, doing: str) -> list[str]:
        return self.reach.shell(self.host, script, doing)

    def _record(self, said: str) -> Record:
        try:
            return Record.model_validate_json(said)
        except ValidationError:
            raise PaddockError(f"{self.host}: what its gateway says of a copy makes no sense") from None


def line_of(record: Record) -> bytes:
    """What goes to `receive` before the copy."""
    return json.dumps(record.model_dump()).encode() + b"\n"


def _replaced(said: str, host: str) -> Replaced:
    with suppress(ValueError, LookupError, TypeError):
        values = from_json(said)
        return Replaced(len(values["revoked"]), bool(values["known"]))
    raise PaddockError(f"{host}: what its gateway says of the database that was put back makes no sense")


def _sh(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"
