"""Where a Python package index keeps source distributions and wheels: the index is the one that pip is configured for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from packaging.utils import parse_wheel_filename
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
    UnsupportedContentTypeError,
)

from control.fetching.download import Progress, fetched, reason, silent
from control.fetching.session import Session
from inventory import bounds
from inventory.errors import PaddockError
from inventory.urls import without_query
from resources import lines_of


@dataclass(frozen=True)
class Sdist:
    """A source distribution, `llama-cpp-python==0.3.36`, in an index. `promised` is the sha256 that the index says; empty where it says
    none."""

    name: str
    index: str
    package: DistributionPackage
    session: Session

    @property
    def promised(self) -> str:
        said = self.package.digests.get("sha256", "").lower()
        return said if re.fullmatch("[0-9a-f]{64}", said) else ""

    def fetched(self, sha256: str, into: Path, *, aside: Path, progress: Progress = silent) -> Path:
        """The file, in the directory `into`. Raises PaddockError where it is not the one with this digest; see `download.fetched`."""
        if self.promised and self.promised != sha256:
            raise PaddockError(
                f"llama.cpp's source, {self.name}: its sha256 in {without_query(self.index)} is {self.promised}, and {sha256} is pinned, so"
                " it was not fetched: use another index (PIP_INDEX_URL); or, if this file is the one that is meant, correct `sha256` at the"
                f" source, or run `paddock artifacts pull --lock {self.name}`"
            )
        return fetched(self.package.url, sha256, into, aside=aside, progress=progress, session=self.session)


def find_sdist(name: str, *, plain_http: bool = False) -> Sdist:
    """Asks the indexes, one after another. Other machines are asked over TLS only, unless `plain_http`. Raises PaddockError."""
    project, _, version = name.partition("==")
    pip = pip_configuration()
    verify = pip.get("cert", True)
    refusals: list[str] = []
    for index, page in _pages(project, pip, refusals, plain_http=plain_http):
        for package in page.packages:
            if package.package_type == "sdist" and package.version == version:
                return Sdist(name, index, package, Session(bounds.DOWNLOAD, verify, plain_http=plain_http))
        newest = [package.version for package in page.packages if package.package_type == "sdist"][-3:]
        refusals.append(f"{without_query(index)} has no source of {version} (but of {', '.join(filter(None, newest)) or 'none'})")
    raise PaddockError(f"llama.cpp's source, {name}: {'; '.join(refusals)}; {WHOSE_INDEX}")


@dataclass(frozen=True)
class Link:
    """Where a file is, and how it is asked for."""

    url: str
    session: Session


def find_wheels(wanted: Mapping[str, str]) -> Iterator[tuple[str, Link]]:
    """Of each wheel, file name → sha256, where it is: the first index that has it with this digest. Other machines are asked over TLS only.

    Raises PaddockError for the first that none has.
    """
    pip = pip_configuration() if wanted else {}
    session = Session(bounds.DOWNLOAD, pip.get("cert", True), plain_http=False)
    for name, sha256 in wanted.items():
        project, refusals = str(parse_wheel_filename(name)[0]), list[str]()
        for index, page in _pages(project, pip, refusals):
            said = {package.filename: package for package in page.packages}.get(name)
            if said and said.digests.get("sha256", sha256).lower() == sha256:
                yield name, Link(said.url, session)
                break
            refusals.append(f"{without_query(index)} has {'another file of this name' if said else 'no such file'}")
        else:
            raise PaddockError(f"{name}: {'; '.join(refusals)}; {WHOSE_INDEX}")


WHOSE_INDEX = "the index is pip's (PIP_INDEX_URL, pip config)"


def _pages(project: str, pip: Mapping[str, str], refusals: list[str], *, plain_http: bool = False) -> Iterator[tuple[str, ProjectPage]]:
    """What each index has of a project; why one says nothing goes to the `refusals`."""
    for index in indexes(pip):
        try:
            session = Session(bounds.INDEX_PAGE, pip.get("cert", True), plain_http=plain_http)
            page = PyPISimple(index, session=session).get_project_page(project)
        except NoSuchProjectError:
            refusals.append(f"{without_query(index)} has no {project}")
        except (requests.RequestException, UnsupportedContentTypeError) as error:
            refusals.append(f"{without_query(index)}: {reason(error)}")
        else:
            yield index, page


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
