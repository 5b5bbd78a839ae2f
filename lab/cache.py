"""What the lab keeps on this machine between runs: its SSH key, the image's root, packages, compiled objects, the engine's log."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_ssh_private_key

from inventory.errors import PaddockError


def directory(*parts: str) -> Path:
    """`~/.cache/paddock/lab` (under XDG_CACHE_HOME where that is set) or a directory in it, made if it is not there.

    Raises PaddockError where other accounts can write there: what lies there runs, and the names in it can be guessed.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    lab = Path(home, "paddock", "lab")
    path = lab.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    found = lab.stat()
    if found.st_mode & stat.S_IWOTH or found.st_uid not in (0, os.geteuid()):
        why = f"other accounts can write there (mode {found.st_mode & 0o7777:04o})"
        raise PaddockError(f"{lab}: {why}: remove it, and let the lab make it")
    return path


def ssh_key() -> Path:
    """The private key that every lab host lets in, made at first use, readable to its owner only."""
    path = directory() / "ssh_key"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # for its owner only
            file.write(pem)
            file.flush()
            with suppress(FileExistsError):  # another was quicker: its key is the lab's
                path.hardlink_to(file.name)
    return path


def ssh_public_key() -> str:
    """Its public half, as a line of authorized_keys."""
    public = load_ssh_private_key(ssh_key().read_bytes(), password=None).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " paddock-lab"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Nobody else on this machine is here meanwhile. The lock goes with the process, however that ends."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
