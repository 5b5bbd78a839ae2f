"""Steps carried out on a host in one command: a constant shell line, and through standard input one archive of steps and files."""

from __future__ import annotations

import base64
import io
import tarfile
import time
from collections.abc import Collection, Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shlex import quote

from pyinfra import host
from pyinfra.api import StringCommand, operation

RECEIVE = r"""echo "paddock-does: " >&2; set -eu; umask 077; LC_ALL=C; export LC_ALL; at=; stage=
trap 'rc=$?; [ -z "$stage" ] || rm -rf "$stage"; rmdir /var/lib/paddock 2>/dev/null || true; [ $rc = 0 ] || echo "paddock-at: $at" >&2' EXIT
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


@dataclass
class Steps:
    """Calls of the functions in `host.sh`, and the files that they put into place."""

    calls: list[str] = field(default_factory=list)
    members: list[tuple[tarfile.TarInfo, bytes | Path]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, function: str, *arguments: object) -> None:
        self.calls.append(" ".join([function, *(quote(str(each)) for each in arguments)]))

    def pack(self, data: bytes, owner: str = "root", group: str = "root", mode: int = 0o600) -> str:
        """Adds a file to the archive and gives its name there. It has its owner and mode from its first moment on the host."""
        member = tarfile.TarInfo(str(len(self.members)))
        member.size, member.mode, member.mtime, member.uname, member.gname = len(data), mode, int(time.time()), owner, group
        self.members.append((member, data))
        return member.name

    def pack_file(self, path: Path) -> str:
        """Adds a file of this machine, as it will be when the steps are carried out: it need not be there yet."""
        name = self.pack(b"")
        self.members[-1] = (self.members[-1][0], path)
        return name

    def archive(self) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            for member, data in (*self.members, _member("host.sh", _functions()), _member("steps", "\n".join([*self.calls, ""]).encode())):
                content = data.read_bytes() if isinstance(data, Path) else data
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return packed.getvalue()


def _member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    return member, data


@cache
def _functions() -> bytes:
    return b"\n".join((Path(__file__).parent / name).read_bytes() for name in ("host.sh", "models.sh"))


@operation()
def apply(steps: Steps) -> Generator[StringCommand, None, None]:
    """Carries the steps out, in order, as root; the first that fails ends them."""
    yield command(steps)


def command(steps: Steps) -> StringCommand:
    """What carries the steps out: the steps themselves go through standard input."""
    return StringCommand("sh", "-c", quote(RECEIVE), _stdin=base64.encodebytes(steps.archive()).decode())


@operation()
def stage(needs: Collection[str] = ()) -> Generator[StringCommand, None, None]:
    """Does nothing, on every host: pyinfra sorts what hosts do not share by depth, not by line, so that a role needs a shared slot to wait
    at.

    Where a host of those that this one needs has failed by then, it fails too.
    """
    if failed := ", ".join(sorted(each.name for each in host.state.failed_hosts if each.name in needs)):
        yield StringCommand("echo", quote(f"was not started: it needs {failed}, which failed") + " >&2;", "exit", "1")
