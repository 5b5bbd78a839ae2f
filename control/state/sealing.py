"""Sealed files larger than memory: written from blocks as they come, and opened into what takes blocks. Nothing lies in the clear between.

age reads and writes 64 KiB at a time (https://age-encryption.org/v1, Payload).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from control.state.fleet import sync_directory
from control.state.secrets import Vault
from inventory.errors import PaddockError


def seal_file(vault: Vault, blocks: Iterable[bytes], target: Path) -> int:
    """Writes the file whole, or none, and gives its size in bytes. Raises PaddockError, and whatever the blocks raise."""
    import pyrage

    source, keys = _Blocks(blocks), vault.recipient_keys()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    except OSError as error:
        raise PaddockError(f"{target}: cannot be written: {error.strerror}") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            pyrage.encrypt_io(source, file, keys)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        part.replace(target)
        sync_directory(target.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if source.failed:
            raise source.failed from None
        if isinstance(error, OSError | pyrage.EncryptError):
            raise PaddockError(f"{target}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
        raise
    return size


def unseal_file(vault: Vault, source: Path, take: Callable[[bytes], None]) -> None:
    """Hands on what is in the file; that it is whole is known at the end. Raises PaddockError, and whatever `take` raises."""
    import pyrage

    taker = _Taker(take)
    try:
        with source.open("rb") as file:
            pyrage.decrypt_io(file, taker, [each.key for each in vault.identities()])
    except (OSError, ValueError, pyrage.DecryptError) as error:
        if taker.failed:
            raise taker.failed from None
        if "No matching keys" in str(error):
            mine = " or ".join(each.public or each.where for each in vault.identities()) or "there is none here"
            raise PaddockError(
                f"{source}: was encrypted for others than you ({mine}): name an identity of one of them in PADDOCK_AGE_IDENTITY"
            ) from None
        if isinstance(error, OSError) and error.filename:
            raise PaddockError(f"{source}: cannot be read: {error.strerror}") from None
        raise PaddockError(f"{source}: is damaged, not whole, or no sealed file ({error})") from None
    except BaseException:
        if taker.failed:
            raise taker.failed from None
        raise


class _Blocks:
    """What pyrage reads. It turns what is raised here into an error of its own."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks, self.left = iter(blocks), memoryview(b"")
        self.failed: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        if self.failed:
            raise self.failed
        try:
            while not self.left:
                self.left = memoryview(next(self.blocks))
        except StopIteration:
            return b""
        except BaseException as error:
            self.failed = error
            raise
        given, self.left = self.left[:size], self.left[size:]
        return bytes(given)


class _Taker:
    """What pyrage writes to."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.take = take
        self.failed: BaseException | None = None

    def write(self, data: bytes) -> int:
        if self.failed:  # pyrage tries to write what is left
            raise self.failed
        try:
            self.take(data)
        except BaseException as error:
            self.failed = error
            raise
        return len(data)

    def flush(self) -> None: ...
