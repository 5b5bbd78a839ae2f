"""Keys as they are kept: never the key, its HMAC-SHA256 with a secret that lies outside the database."""

from __future__ import annotations

import hmac
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from paddock_gateway.settings import SettingsError

SHORTEST = 32
"""Characters of a pepper: below it, one who has the database could guess it."""


def pepper(path: Path) -> bytes:
    """What the file says, without the line's end. Raises SettingsError where it is too short, or readable by everybody."""
    try:
        mode, said = path.stat().st_mode, path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"pepper_file {path}: {error.strerror}") from None
    if mode & (stat.S_IRWXO):
        raise SettingsError(f"pepper_file {path} is open to every user of this machine: chmod o= {path}")
    if len(said) < SHORTEST:
        raise SettingsError(
            f"pepper_file {path} holds {len(said)} characters, {SHORTEST} are needed: "
            "fill a new one (`openssl rand -hex 32`); keys made with another pepper will not work"
        )
    return said


def digest(pepper: bytes, key: str) -> str:
    """In hex, as it stands in the configuration and the database."""
    keyed = _keyed(pepper).copy()
    keyed.update(key.encode("utf-8", "backslashreplace"))
    return keyed.hexdigest()


@lru_cache(1)
def _keyed(pepper: bytes) -> hmac.HMAC:
    """To be copied: OpenSSL takes longer to look up the algorithm than for the digest of a key."""
    return hmac.new(pepper, digestmod="sha256")


def new_key() -> str:
    return "sk-" + secrets.token_urlsafe(32)


def hint(key: str) -> str:
    """`sk-Ab…xy9Z`: enough for a person, 36 bits of 256 less to guess."""
    return f"{key[:5]}…{key[-4:]}"
