"""The front of a GGUF, read as far as its header goes: from a file, or by ranges over HTTP."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from control.fetching.download import reason, said_length
from control.models.hugging_face import bearer
from inventory import bounds
from inventory.errors import PaddockError
from inventory.urls import without_query

FIRST_BYTES = 1 << 20
NAME_MOST = 65535
NAME_SHOWN = 80


class Front:
    """The front of a file, which grows as far as somebody reads."""

    def __init__(self, name: str) -> None:
        self.name = name
        """For people."""
        self.size = 0
        """Of the whole file; 0 where nobody says."""
        self.data = bytearray()
        self.position = 0
        self.started = time.monotonic()

    def more(self, end: int) -> None:
        """Reads on until there are `end` bytes, or none are left."""
        raise NotImplementedError

    def take(self, count: int) -> int:
        """Where the next `count` bytes begin; they are there, and behind us."""
        start, end = self.position, self.position + count
        if end > len(self.data):
            most = bounds.GGUF_HEADER.size  # the largest that are known, with a vocabulary of 260,000 tokens, have 16 MiB
            if end > most:
                raise self.wrong(f"its header says that it goes on beyond {bounds.size_words(most)}, which no model's does")
            self.more(min(max(end, 2 * len(self.data), FIRST_BYTES), most))
            if end > len(self.data):
                raise self.wrong(f"it is cut off after {len(self.data)} bytes, in its header: fetch it again")
        self.position = end
        return start

    def wrong(self, what: str) -> PaddockError:
        return wrong(self.name, what)

    def number(self, kind: str) -> Any:
        form = struct.Struct(f"<{kind}")
        return form.unpack_from(self.data, self.take(form.size))[0]

    def text(self) -> str:
        length = self.number("Q")
        if length > NAME_MOST:
            raise self.wrong(f"its header has a name of {length} bytes: llama.cpp would not load this file")
        start = self.take(length)
        return self.data[start : start + length].decode("utf-8", "replace")


class FileFront(Front):
    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise self.wrong(f"{error.strerror}") from None

    def more(self, end: int) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(len(self.data))
                self.data += file.read(end - len(self.data))
        except OSError as error:
            raise self.wrong(f"{error.strerror}") from None


class UrlFront(Front):
    """Asks for one range after another. A server that knows no ranges sends it all: then it is listened to as far as is needed."""

    def __init__(self, url: str, token: str, session: requests.Session) -> None:
        super().__init__(without_query(url))
        self.url, self.token, self.session = url, token, session
        self.whole: Iterator[bytes] | None = None

    def more(self, end: int) -> None:
        try:
            if self.whole is None:
                self._ask(end)
            if self.whole is not None:
                self._listen(self.whole, end)
        except requests.RequestException as error:
            raise self.wrong(reason(error)) from None

    def _ask(self, end: int) -> None:
        headers = {"Range": f"bytes={len(self.data)}-{end - 1}", "Accept-Encoding": "identity"}
        sign = bearer(self.token) if self.token else None
        answer = self.session.get(self.url, headers=headers, stream=True, auth=sign)
        if answer.status_code == 416:  # Range Not Satisfiable: nothing is left
            answer.close()
            return
        if refusal := REFUSALS.get(answer.status_code):
            answer.close()
            raise self.wrong(f"{refusal} (HTTP {answer.status_code})")
        answer.raise_for_status()
        if answer.status_code == 206:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            self.size = int(total) if re.fullmatch(r"[0-9]{1,18}", total) else 0
            with answer:
                self._listen(answer.iter_content(1 << 16), end)
        else:
            self.size = said_length(answer)
            self.data.clear()
            self.whole = answer.iter_content(1 << 16)

    def _listen(self, pieces: Iterator[bytes], end: int) -> None:
        while len(self.data) < end and (piece := next(pieces, b"")):
            self.data += piece
            if time.monotonic() - self.started > (bounds.GGUF_HEADER.seconds or 0):
                raise self.wrong(f"its header has not come within {bounds.time_words(bounds.GGUF_HEADER.seconds)}")


REFUSALS = {
    401: "it wants a token that may read it",
    403: "the token may not read it, or its licence has to be accepted on its page first",
    404: "there is no such file",
    410: "it is there no longer",
}


def wrong(name: str, what: str) -> PaddockError:
    """One line, whatever a header has put into it."""
    return PaddockError(f"{name}: {_printable(what)}")


def shown(text: str) -> str:
    """What a header says, as far as people want to read it."""
    return _printable(text[:NAME_SHOWN])


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
