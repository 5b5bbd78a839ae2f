"""What the control machine keeps of a fleet, in `.paddock/<fleet>/` beside its inventory. `PADDOCK_STATE` moves `.paddock`.

    .gitignore          admits what may be committed: everything listed here from recipients.txt to history/, of artifacts/ the descriptions
    recipients.txt      who can open what is sealed: an age or SSH public key a line
    fleet.json          which state this is, and what hosts know of it: see control/state/lineage.py
    certs/              authorities.json: the fleet's CAs, and which of them signs; server/NAME.json and client/NAME.json: which certificate
                        is in use, which are still let in, and what is revoked
    secrets/NAME.age    the named secrets
    release.key.age     the key that signs releases
    known_hosts         the hosts' pinned keys, as OpenSSH writes them
    hardware/HOST.json  what each host's machine is
    artifacts/          NAME.json: what each release is; NAME.tar.gz: the release itself, packed to travel
    speeds/HOST.txt     how fast the host's servers were: see control/state/speeds.py
    evidence/HOST-ID/   why a host has not kept a release: see control/state/evidence.py
    history/            what the last runs changed: see control/lifecycle/history.py
    export/CLIENT/      a client's certificate and its key, unsealed
    lock                who is changing the fleet
    admission.lock      held for a moment while who is let in changes

Everything here is readable to its owner only, and each file is replaced whole or not at all.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from inventory.bounds import LOCAL_FILE, TooMuch, size_words
from inventory.errors import PaddockError, UsageError
from inventory.hardware import Hardware
from resources import lines_of

PACKAGES = Path(__file__).resolve().parents[2]
"""Where Paddock's own packages lie: a clone, or site-packages."""

IN_A_CLONE = (PACKAGES / "scripts" / "setup").is_file()


def paddock_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("paddock")
    except PackageNotFoundError:
        return "(not installed)"


HOST_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) \S+")

# What is not named here stays out of git, so that nothing new gets in by being forgotten.
GITIGNORE = """\
*
!/.gitignore
!/recipients.txt
!/fleet.json
!/ca.pem
!/ca.json
!/certs/
!/certs/**/
!/certs/**/*.pem
!/certs/**/*.json
!/secrets/
!/hardware/
!/hardware/*.json
!/known_hosts
!*.age
!/artifacts/
/artifacts/*
!/artifacts/*.json
!/history/
!/history/*.json
!/history/*.json.gz
!/speeds/
!/speeds/*.txt
"""


def _without(*words: str) -> bytes:
    return "".join(line for line in GITIGNORE.splitlines(keepends=True) if not any(word in line for word in words)).encode()


EARLIER_GITIGNORES = (_without("speeds"), _without("speeds", "history"), _without("speeds", "history", "artifacts", "fleet.json"))
"""As earlier versions wrote it."""


def tell(text: str) -> None:
    """A word to the person at the terminal, where it does not mix with what a verb prints."""
    print(text, file=sys.stderr)


def nobody(question: str) -> bool:
    """The answer where nobody is there to be asked."""
    return False


def read(path: Path) -> bytes | None:
    """The file's content, None where there is no such file. Raises PaddockError where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(LOCAL_FILE.size + 1)
        if len(data) > LOCAL_FILE.size:
            raise TooMuch(f"{path}: is larger than {size_words(LOCAL_FILE.size)}: this is not what Paddock has written")
        return data
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PaddockError(f"{path}: cannot be read: {error.strerror}") from None


def at_home(path: str, what: str) -> Path:
    """A path with its `~` replaced. Raises PaddockError, which names `what`, where that is the home of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PaddockError(f"{what}: no account has the home of {path}: write an absolute path") from None


@contextmanager
def in_words(path: Path, what: str) -> Iterator[None]:
    """Raises PaddockError, that the path, or the one at fault, `cannot be read`, where an OSError is raised within."""
    try:
        yield
    except OSError as error:
        raise PaddockError(f"{error.filename or path}: {what}: {error.strerror or error}") from None


def write_atomically(path: Path, data: bytes | str, mode: int = 0o600, *, exclusive: bool = False) -> None:
    """Put a file in place whole, with its mode from the first moment, and on the disk before this returns.

    Where `exclusive`, raises FileExistsError instead of replacing a file. Raises PaddockError where it cannot be written, UsageError for
    a file among the installed packages.
    """
    _require_outside_packages(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                path.hardlink_to(temporary)
                temporary.unlink()
            else:
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise PaddockError(f"{path}: cannot be written: {error.strerror}") from None


def _require_outside_packages(path: Path) -> None:
    """An upgrade of the package replaces what lies there, and others may not write there. Raises UsageError."""
    if not IN_A_CLONE and path.resolve().is_relative_to(PACKAGES):
        raise UsageError(
            f"{path}: Paddock is installed there and writes nothing there: copy the inventory to a directory of your own, "
            "and see that PADDOCK_STATE, if set, names such a directory"
        )


def sync_directory(directory: Path) -> None:
    """Have what was created, renamed or removed in the directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(directory: Path) -> Path:
    """The directory, made 0700 where it is missing, whatever the umask. One that is there keeps its mode."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return directory
    except OSError as error:
        raise PaddockError(f"{directory}: cannot be made: {error.strerror}") from None
    with in_words(directory, "cannot be closed to others"):
        directory.chmod(0o700)
    return directory


def _links(directory: Path | str) -> Iterator[str]:
    """The symbolic links below a directory. A run that ends elsewhere may take files away meanwhile."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(entry.path)


@dataclass(frozen=True)
class FleetState:
    """The state of one fleet. Nothing is made on disk before something is kept."""

    inventory: Path
    fleet: str
    path: Path
    say: Callable[[str], None] = tell
    ask: Callable[[str], bool] = nobody

    @classmethod
    def of(cls, inventory: Path, fleet_name: str, say: Callable[[str], None] = tell, ask: Callable[[str], bool] = nobody) -> FleetState:
        """The state beside an inventory file. `say` and `ask` speak with the person at the terminal.

        A directory that others can read is closed to them, with a word. Raises PaddockError where it is somebody else's or has a link in
        it, which whoever can write to its git repository may have put there; UsageError where it would lie among the installed packages.
        """
        moved = os.environ.get("PADDOCK_STATE")
        root = at_home(moved, "PADDOCK_STATE") if moved else inventory.parent / ".paddock"
        state = cls(inventory.absolute(), fleet_name, root.absolute() / fleet_name, say, ask)
        _require_outside_packages(state.path)
        state._guard()
        return state

    def _guard(self) -> None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise PaddockError(f"{self.path}: cannot be read: {error.strerror}") from None
        if found.st_uid != os.geteuid():
            raise PaddockError(
                f"{self.path}: belongs to user {found.st_uid}, you are {os.geteuid()}: "
                f"run as its owner, or give it to you with `chown -R {os.geteuid()} {self.path}`"
            )
        if found.st_mode & 0o077:
            with in_words(self.path, "is open to others, which cannot be changed"):
                self.path.chmod(0o700)
            self.say(f"{self.path}: others could read it (mode {found.st_mode & 0o777:04o}), it is 0700 now")
        with in_words(self.path, "cannot be read"):
            link = next(_links(self.path), None)
        if link:
            raise PaddockError(
                f"{link}: is a link, and Paddock keeps nothing behind links: what is written or deleted there would be somewhere else. "
                "Take it away, or put back what it stands for; PADDOCK_STATE moves the whole state"
            )

    def directory(self, *parts: str) -> Path:
        """The state directory or one in it, made where it is missing."""
        if not self.path.is_dir():
            make_private(self.path.parent)
            make_private(self.path)
        if read(self.path / ".gitignore") in (None, *EARLIER_GITIGNORES):
            write_atomically(self.path / ".gitignore", GITIGNORE)
        directory = self.path
        for part in parts:
            directory = make_private(directory / part)
        return directory

    # Host keys

    @property
    def known_hosts(self) -> Path:
        return self.path / "known_hosts"

    def pin(self, host: str, known_as: str, key: str) -> None:
        """Take `key` (`ssh-ed25519 AAAA…`) for the host's, in place of what was pinned for it. ssh looks it up as `known_as`: its address,
        `[192.0.2.7]:2222` where sshd listens on another port than 22."""
        found = HOST_KEY.match(key.strip())
        if not found:
            raise PaddockError(f"{host}: {key.strip()[:40]!r} is not an SSH host key, such as `ssh-ed25519 AAAA…`")
        kept = [line for line in self._known_hosts() if _host_of(line) != host]
        self.directory()
        write_atomically(self.known_hosts, "\n".join([*kept, f"{known_as} {found[0]} {host}", ""]))

    def pinned(self, host: str) -> str | None:
        """The host's pinned key, `ssh-ed25519 AAAA…`."""
        return next((" ".join(line.split()[1:3]) for line in self._known_hosts() if _host_of(line) == host), None)

    def _known_hosts(self) -> list[str]:
        return lines_of((read(self.known_hosts) or b"").decode(errors="replace"))

    # Hardware

    def hardware(self, host: str) -> Hardware | None:
        """What the host's machine was when it was last looked at, None where that is not known."""
        text = read(self.path / "hardware" / f"{host}.json")
        try:
            return _hardware_type().validate_json(text) if text else None
        except ValueError:
            return None  # written by another version, or by hand: the host will be asked again

    def save_hardware(self, host: str, hardware: Hardware) -> None:
        write_atomically(self.directory("hardware") / f"{host}.json", _hardware_type().dump_json(hardware, indent=1) + b"\n")


@cache
def _hardware_type() -> TypeAdapter[Hardware]:
    """Made once: it takes as long as to read the hardware of fifty hosts."""
    return TypeAdapter(Hardware)


def _host_of(line: str) -> str | None:
    """The name of the host in the inventory, which stands in the comment: `192.0.2.7 ssh-ed25519 AAAA… pea` → `pea`."""
    fields = line.split()
    return fields[3] if len(fields) == 4 and not line.startswith(("#", "@")) else None
