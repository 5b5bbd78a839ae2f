"""Archives that somebody else has made, read once from the front: nothing of them is believed, and no more is unpacked than is wanted."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from inventory.bounds import ARCHIVE_HEADERS, MIB, Bound, TooMuch, size_words

CHUNK = 1 << 16
XZ_MEMORY = 256 * MIB
"""xz names the memory that it wants; the highest of its presets takes 65 MiB."""

FORMATS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)),
)
"""How a file begins, and what unpacks it."""


@dataclass(frozen=True)
class Member:
    """One entry. Its content is there until the next one is asked for."""

    info: tarfile.TarInfo
    front: _Front

    @property
    def name(self) -> str:
        return self.info.name

    def blocks(self) -> Iterator[bytes]:
        """The content of a regular file, once. Raises tarfile.ReadError where it is cut off."""
        left = self.info.size
        while left:
            block = self.front.take(min(left, MIB))
            if not block:
                raise tarfile.ReadError(f"it is cut off within {self.name}")
            left -= len(block)
            yield block

    def content(self) -> bytes:
        return b"".join(self.blocks())


def members(path: Path, bound: Bound, what: str) -> Iterator[Member]:
    """The entries of a tar archive, which may be packed with gzip, bzip2 or xz. `what` names it in a refusal: `release 0.3.36-1f0c`.

    Raises TooMuch where it is beyond its bound, or would be larger unpacked than it says, and tarfile.ReadError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            front = _Front(_unpacked(file), bound, what)
            with tarfile.open(fileobj=front, mode="r:") as tar:  # type: ignore[call-overload]  # as much of a file as it needs
                for number, info in enumerate(tar, 1):
                    if number > bound.items:
                        raise TooMuch(f"{what}: its archive has more than {bound.items:,} {bound.of}")
                    if info.issparse():
                        raise TooMuch(f"{what}: its archive has a file with holes, {info.name}: pack it without `--sparse`")
                    if info.size > bound.size:
                        raise front.too_much()
                    yield Member(info, front)
    except tarfile.ReadError:
        raise
    except (tarfile.TarError, OSError, ValueError, LookupError, RecursionError) as error:
        raise tarfile.ReadError(str(error) or type(error).__name__) from None


class _Front:
    """What comes out, as tarfile reads it: forward only, its own reading apart from that of contents."""

    def __init__(self, stream: BinaryIO, bound: Bound, what: str) -> None:
        self.stream, self.bound, self.what = stream, bound, what
        self.position = self.of_headers = self.of_contents = 0

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        """A part of a header. tarfile takes time that grows with the square of a long one (CVE-2024-6232)."""
        self.of_headers += size
        if size > ARCHIVE_HEADERS.piece or self.of_headers > ARCHIVE_HEADERS.size:
            raise TooMuch(f"{self.what}: its archive says more of its files than any archive does")
        return self._read(size)

    def seek(self, position: int) -> None:
        """Over a content that nobody wants."""
        if position < self.position:
            raise tarfile.ReadError("it goes back to what was read")
        while self.position < position and self.take(min(position - self.position, MIB)):
            pass

    def take(self, size: int) -> bytes:
        """A part of a content."""
        self.of_contents += size
        if self.of_contents > self.bound.size:
            raise self.too_much()
        return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            data = self.stream.read(size)
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise tarfile.ReadError(str(error)) from None
        self.position += len(data)
        return data

    def too_much(self) -> TooMuch:
        return TooMuch(f"{self.what}: its archive unpacks to more than {size_words(self.bound.size)}: nothing of it is taken")


def _unpacked(file: BinaryIO) -> BinaryIO:
    """By how it begins."""
    begins = file.read(8)
    file.seek(0)
    new = next((new for magic, new in FORMATS if begins.startswith(magic)), None)
    return io.BufferedReader(_Decompressed(file, new), CHUNK) if new else file


class _Decompressed(io.RawIOBase):
    """What comes out of packed bytes, as much at a time as is asked for."""

    def __init__(self, file: BinaryIO, new: Callable[[], Any]) -> None:
        self.file, self.new, self.unpacking, self.packed = file, new, new(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self.unpacking.eof:
                self.packed = (self.unpacking.unused_data or self.file.read(CHUNK)).lstrip(b"\0")
                if not self.packed:
                    return 0
                self.unpacking = self.new()  # another one behind it
            if not self.packed and getattr(self.unpacking, "needs_input", True):
                self.packed = self.file.read(CHUNK)
            was_packed, data = self.packed, self.unpacking.decompress(self.packed, len(buffer))
            self.packed = getattr(self.unpacking, "unconsumed_tail", b"")
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not was_packed and not self.unpacking.eof:
                raise EOFError("it is cut off")
