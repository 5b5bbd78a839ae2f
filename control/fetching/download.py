"""One file over HTTP, checked against its digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from control.fetching.session import PlainHttp, Session, TooSlow
from inventory import bounds
from inventory.errors import PaddockError
from inventory.urls import without_query

Progress = Callable[[str, int, int], None]
"""Told the name, the bytes that have come and the bytes that are to come (0 where the server does not say)."""


Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]
"""Adds to a request what the server wants to be shown."""


def silent(name: str, done: int, total: int) -> None:
    """The progress that nobody sees."""


def fetched(url: str, sha256: str | None, into: Path, *, aside: Path, progress: Progress = silent, session: Session | None = None) -> Path:
    """The file at `url`, in the directory `into`. One with another digest is kept in the directory `aside`, to be looked at.

    Raises PaddockError where nothing answers, or what comes is not what was asked for.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(url).path.rpartition("/")[2]) or "download"
    target, digest, done = into / name, hashlib.sha256(), 0
    try:
        with (session or Session(bounds.DOWNLOAD)).get(url, stream=True) as answer, target.open("wb") as file:
            answer.raise_for_status()
            total = said_length(answer)
            for piece in answer.iter_content(1 << 18):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                progress(name, done, total)
    except requests.RequestException as error:
        raise PaddockError(f"{without_query(url)}: {reason(error)}") from None
    if sha256 and digest.hexdigest() != sha256:
        kept = aside / f"wrong-{name}"
        target.replace(kept)
        raise PaddockError(
            f"{without_query(url)}: its sha256 is {digest.hexdigest()}, not {sha256}, so it was not used: take it from elsewhere,"
            f" or, if this is the one that is meant, correct the digest; what came is kept as {kept}"
        )
    return target


def digest_at(url: str, progress: Progress = silent, *, begins_with: bytes = b"GGUF", auth: Auth | None = None) -> tuple[str, int]:
    """The sha256 and the size of the file at `url`, which is read once and not kept. Raises PaddockError where it is a web page, or begins
    with something else than is said: as a model, if it is one."""
    name, digest, done = urlsplit(url).path.rpartition("/")[2], hashlib.sha256(), 0
    try:
        with Session(bounds.MODEL).get(url, stream=True, auth=auth) as answer:
            answer.raise_for_status()
            total = said_length(answer)
            for piece in answer.iter_content(1 << 20):
                page = "text/html" in answer.headers.get("Content-Type", "")
                if not done and (page or not piece.startswith(begins_with)):
                    page = page or piece.lstrip().startswith(b"<")
                    what = "a web page: is the address right, and does it want a login?" if page else "no GGUF"
                    raise PaddockError(f"{without_query(url)}: what comes is {what}")
                digest.update(piece)
                done += len(piece)
                progress(name, done, total)
    except requests.RequestException as error:
        raise PaddockError(f"{without_query(url)}: {reason(error)}") from None
    if total and done != total:
        raise PaddockError(f"{without_query(url)}: it was cut off after {done} of {total} bytes: try again")
    if not done:
        raise PaddockError(f"{without_query(url)}: what comes is empty: is the address right?")
    return digest.hexdigest(), done


def said_length(answer: requests.Response) -> int:
    """The bytes that a server says will come; 0 where it does not say it."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0


def reason(error: Exception) -> str:
    """Why a request failed, in a few words instead of the library's nested ones."""
    match error:
        case TooSlow():
            return str(error)
        case requests.HTTPError(response=answer) if answer is not None:
            return f"answers {answer.status_code} {answer.reason or ''}".rstrip()
        case requests.Timeout():
            return "does not answer in time"
        case requests.exceptions.SSLError():
            return "its certificate is not trusted"
        case PlainHttp():
            return "is asked without TLS: use https, or, for an index of your own, `plain_http: true` at the source"
        case requests.ConnectionError():
            return "cannot be reached: is this machine online, and the name right?"
    return f"{type(error).__name__}: {error}"


def without_password(text: str) -> str:
    """What another program says of URLs, as it may be shown: `https://user:secret@host/` → `https://host/`"""
    return re.sub(r"(?<=://)[^/@]*@", "", text)
