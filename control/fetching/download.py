"""One file over HTTP, checked against its digest; and where a Python package index keeps a source distribution."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple, UnsupportedContentTypeError

from control.fetching.session import Session, TooSlow
from inventory import bounds
from inventory.errors import PaddockError
from inventory.urls import without_query
from resources import lines_of

Progress = Callable[[str, int, int], None]
"""Told the name, the bytes that have come and the bytes that are to come (0 where the server does not say)."""


def silent(name: str, done: int, total: int) -> None:
    """The progress that nobody sees."""


def fetched(url: str, sha256: str | None, into: Path, *, aside: Path, progress: Progress = silent, verify: str | bool = True) -> Path:
    """The file at `url`, in the directory `into`. One with another digest is kept in the directory `aside`, to be looked at.

    Raises PaddockError where nothing answers, or what comes is not what was asked for.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(url).path.rpartition("/")[2]) or "download"
    target, digest, done = into / name, hashlib.sha256(), 0
    try:
        with Session(bounds.DOWNLOAD, verify).get(url, stream=True) as answer, target.open("wb") as file:
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
        raise PaddockError(f"{without_query(url)}: its sha256 is {digest.hexdigest()}, not {sha256}; what came is kept as {kept}")
    return target


def digest_at(url: str, progress: Progress = silent) -> tuple[str, int]:
    """The sha256 and the size of the model at `url`, which is read once and not kept. Raises PaddockError where it is none."""
    name, digest, done = urlsplit(url).path.rpartition("/")[2], hashlib.sha256(), 0
    try:
        with Session(bounds.MODEL).get(url, stream=True) as answer:
            answer.raise_for_status()
            total = said_length(answer)
            for piece in answer.iter_content(1 << 20):
                if not done and not piece.startswith(b"GGUF"):
                    page = piece.lstrip().startswith(b"<") or "text/html" in answer.headers.get("Content-Type", "")
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


def sdist_of(sdist: str, sha256: str | None, into: Path, *, aside: Path, progress: Progress = silent) -> Path:
    """A source distribution, `llama-cpp-python==0.3.36`, from the index that pip is configured for, checked against the index's digest and
    `sha256`, the inventory's."""
    project, _, version = sdist.partition("==")
    pip = pip_configuration()
    verify = pip.get("cert", True)
    refusals = []
    for index in indexes(pip):
        try:
            page = PyPISimple(index, session=Session(bounds.INDEX_PAGE, verify)).get_project_page(project)
        except NoSuchProjectError:
            refusals.append(f"{without_query(index)} has no {project}")
            continue
        except (requests.RequestException, UnsupportedContentTypeError) as error:
            refusals.append(f"{without_query(index)}: {reason(error)}")
            continue
        for package in page.packages:
            if package.package_type == "sdist" and package.version == version:
                if sha256 and (promised := package.digests.get("sha256")) and sha256 != promised:
                    raise PaddockError(f"llama.cpp's source, {sdist}: the inventory says sha256 {sha256}, the index {promised}")
                digest = sha256 or package.digests.get("sha256")
                return fetched(package.url, digest, into, aside=aside, progress=progress, verify=verify)
        newest = [package.version for package in page.packages if package.package_type == "sdist"][-3:]
        refusals.append(f"{without_query(index)} has no source of {version} (but of {', '.join(filter(None, newest)) or 'none'})")
    raise PaddockError(f"llama.cpp's source, {sdist}: {'; '.join(refusals)}; the index is pip's (PIP_INDEX_URL, pip config)")


def pip_configuration() -> Mapping[str, str]:
    """What pip is configured with, its environment variables last: `{"index-url": "https://…", "cert": "/…"}`."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    lines = (line.partition("=") for line in lines_of(asked.stdout))
    found = {
        key.rpartition(".")[2]: str(ast.literal_eval(value))
        for key, _, value in lines
        if re.match(r"(global|install|download)\.|:env:\.", key)
    }
    return found or {name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name.startswith("PIP_")}


def indexes(pip: Mapping[str, str]) -> list[str]:
    """The package indexes in the order in which they are asked; those that lie in a local directory are left out."""
    given = [pip.get("index-url", PYPI_SIMPLE_ENDPOINT), *pip.get("extra-index-url", "").split()]
    return [index for index in given if urlsplit(index).scheme in ("http", "https")]


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
        case requests.ConnectionError():
            return "cannot be reached: is this machine online, and the name right?"
    return f"{type(error).__name__}: {error}"


def without_password(text: str) -> str:
    """What another program says of URLs, as it may be shown: `https://user:secret@host/` → `https://host/`"""
    return re.sub(r"(?<=://)[^/@]*@", "", text)
