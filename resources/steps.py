"""Steps that a host carries out: calls of the shell functions that the kinds bring, and the files that they put into place."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote


@dataclass
class Steps:
    """Calls, and the files that they name, which travel in one archive."""

    calls: list[str] = field(default_factory=list)
    members: list[tuple[tarfile.TarInfo, Callable[[], bytes]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, function: str, *arguments: object) -> None:
        self.calls.append(call(function, *arguments))

    def pack(self, data: bytes, owner: str = "root", group: str = "root", mode: int = 0o600) -> str:
        """Adds a file to the archive and gives its name there. It has its owner and mode from its first moment on the host."""
        member = tarfile.TarInfo(str(len(self.members)))
        member.size, member.mode, member.mtime, member.uname, member.gname = len(data), mode, int(time.time()), owner, group
        self.members.append((member, lambda: data))
        return member.name

    def pack_file(self, path: Path) -> str:
        """Adds a file of this machine, as it will be when the steps are carried out: it need not be there yet."""
        return self.pack_later(path.read_bytes)

    def pack_later(self, content: Callable[[], bytes]) -> str:
        """Adds a file whose content is asked for when the steps are carried out."""
        name = self.pack(b"")
        self.members[-1] = (self.members[-1][0], content)
        return name

    def archive(self, functions: bytes) -> bytes:
        """A tar.gz of the files, the `functions`, and the calls in `steps`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            steps = "\n".join([*self.calls, ""]).encode()
            for member, read in (*self.members, _member("host.sh", functions), _member("steps", steps)):
                content = read()
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return packed.getvalue()


def call(function: str, *arguments: object) -> str:
    """A call of a shell function, as a shell reads it."""
    return " ".join([function, *(quote(str(each)) for each in arguments)])


def _member(name: str, data: bytes) -> tuple[tarfile.TarInfo, Callable[[], bytes]]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    return member, lambda: data
