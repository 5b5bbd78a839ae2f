"""llama.cpp's source as one archive to send: fetched, checked, and reduced to what a build reads.

    ~/.cache/paddock/sources/<digest>.tar.gz        llama.cpp/CMakeLists.txt, llama.cpp/ggml/…

The same source always gives the same bytes. It is fetched once. With its web page, it is another archive: `tools/ui/dist` is in it, which
llama.cpp's build takes before anything else (scripts/ui-assets.cmake), and hosts need no Node.js.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from control.fetching.archives import Member, members
from control.fetching.download import Progress, fetched, silent, without_password
from control.fetching.limited import limited
from control.fetching.package_index import find_sdist
from control.llama_cpp.page import RECIPE as PAGE
from control.llama_cpp.page import web_page
from inventory.bounds import GIT, SOURCE, size_words, time_words
from inventory.errors import PaddockError
from inventory.source_lock import unknown
from roles.source import Source

CACHE = Path("~/.cache/paddock/sources")

PACKING = 2
"""Counted up when the same source is to give another archive."""

# 2000-01-01: Ninja once took a modification time of 0 for a missing file.
MTIME_S = 946684800

# The larger part of the tree, and nothing that a build of llama-server reads.
UNREAD = frozenset(
    ("benches", "ci", "conversion", "docs", "examples", "gguf-py", "media", "models", "pocs", "requirements", "skills", "tests")
)

UI = PurePosixPath("tools/ui")
# What somebody has built there is of nobody knows which source.
UNREAD_UI = frozenset((".storybook", ".svelte-kit", "build", "dist", "docs", "node_modules", "tests"))
UNSENT_UI = frozenset(("scripts", "src", "static"))


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file of the tree; `name` is relative to where llama.cpp's CMakeLists.txt lies."""

    name: str
    executable: bool
    content: bytes


def source_archive(source: Source, beside: Path, progress: Progress = silent, *, ui: bool = False) -> Path:
    """The source as a tar.gz with `llama.cpp/` on top; a relative `path` starts at `beside`, the inventory's directory.

    With `ui`, the web page is built and lies in it. A llama.cpp from before there was a `tools/ui` goes as it is.

    Raises PaddockError where nothing says its digest, where it cannot be fetched, is not what its digest says, or holds no llama.cpp, where
    the page cannot be built, and of packages, which have none.
    """
    if source.packages:
        raise PaddockError(f"llama.cpp's packages {source.packages} are downloaded by the host: there is no source to fetch")
    if source.unpinned:
        raise PaddockError(f"llama.cpp's source: {unknown(source.unpinned)}")
    tree = tree_digest(beside / Path(source.path).expanduser()) if source.path else ""
    key = hashlib.sha256(f"{PACKING} {source.identity} {source.sha256} {tree} {PAGE if ui else ''}".encode()).hexdigest()[:32]
    target = CACHE.expanduser() / f"{key}.tar.gz"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            packed = Path(scratch) / "packed"
            _pack(_sent(_entries(source, beside, Path(scratch), progress), ui), packed)
            packed.replace(target)
    return target


def tree_digest(path: Path) -> str:
    """Sixty-four hex digits over every file of a source tree that a build reads, its page's too: name, content, whether executable."""
    tree = hashlib.sha256()
    for entry in _walk(path):
        tree.update(f"{entry.name}\0{entry.executable}\0{hashlib.sha256(entry.content).hexdigest()}\n".encode())
    return tree.hexdigest()


def _sent(entries: Iterable[SourceFile], ui: bool) -> list[SourceFile]:
    """What a host compiles: what the page was made into, in place of what it is made of."""
    sent, page = [], {}
    for entry in entries:
        below = PurePosixPath(entry.name.removeprefix(f"{UI}/"))
        ours = entry.name.startswith(f"{UI}/")
        if ours:
            page[str(below)] = entry.content
        if not ours or below.parts[0] not in UNSENT_UI:
            sent.append(entry)
    if ui and "package.json" in page:
        sent += [SourceFile(str(UI / "dist" / name), False, content) for name, content in web_page(page).items()]
    return sorted(sent)


def _entries(source: Source, beside: Path, scratch: Path, progress: Progress) -> Iterable[SourceFile]:
    if source.path:
        return _walk(beside / Path(source.path).expanduser())
    if source.git:
        return _unpacked(_git_archive(source, scratch), source)
    if source.archive:
        return _unpacked(fetched(source.archive, source.sha256, scratch, aside=CACHE.expanduser(), progress=progress), source)
    assert source.sdist and source.sha256
    found = find_sdist(source.sdist, plain_http=source.plain_http)
    return _unpacked(found.fetched(source.sha256, scratch, aside=CACHE.expanduser(), progress=progress), source)


def _walk(root: Path) -> list[SourceFile]:
    if not (root / "CMakeLists.txt").is_file() or not (root / "include/llama.h").is_file():
        raise PaddockError(f"{root}: is not a llama.cpp source tree: CMakeLists.txt or include/llama.h is missing")
    entries: list[SourceFile] = []
    size = 0
    for directory, below, names in os.walk(root):
        here = PurePosixPath(Path(directory).relative_to(root))
        below[:] = [name for name in below if _is_read(here / name / "any")]
        for name in names:
            file = Path(directory, name)
            if _is_read(here / name) and file.is_file() and not file.is_symlink():
                size += file.stat().st_size
                if size > SOURCE.size or len(entries) >= SOURCE.items:
                    most = f"{size_words(SOURCE.size)} in {SOURCE.items:,} {SOURCE.of}"
                    raise PaddockError(
                        f"{root}: is larger than a llama.cpp source tree, which has {most} at most: move away what is no source"
                    )
                entries.append(SourceFile(str(here / name), os.access(file, os.X_OK), file.read_bytes()))
    return sorted(entries)


def _unpacked(archive: Path, source: Source) -> list[SourceFile]:
    """The entries of the llama.cpp tree in an archive, wherever it lies in it: on top, or in `vendor/` of a source distribution."""
    what = f"llama.cpp's source, {source.identity}"
    try:
        names = [PurePosixPath(each.name) for each in members(archive, SOURCE, what) if each.info.isreg()]
        roots = {each.parent.parent for each in names if each.parts[-2:] == ("include", "llama.h")}
        roots &= {each.parent for each in names if each.name == "CMakeLists.txt"}
        if not roots:
            raise PaddockError(f"{what}: it contains no llama.cpp (a CMakeLists.txt beside include/llama.h)")
        root = min(roots, key=lambda path: len(path.parts))
        return sorted(_contents(members(archive, SOURCE, what), root))
    except tarfile.ReadError as error:
        raise PaddockError(f"{what}: is not a readable tar archive: {error}") from None


def _contents(found: Iterable[Member], root: PurePosixPath) -> Iterator[SourceFile]:
    for member in found:
        path = PurePosixPath(member.name)
        if member.info.isreg() and path.is_relative_to(root) and ".." not in path.parts and _is_read(path.relative_to(root)):
            yield SourceFile(str(path.relative_to(root)), bool(member.info.mode & 0o100), member.content())


def _is_read(path: PurePosixPath) -> bool:
    """Whether a build reads the file, or that of the page. Hidden ones on top, `.git` among them, are not read."""
    top, *rest = path.parts
    if top.startswith(".") or (rest and (top in UNREAD or top.startswith("build"))):
        return False
    return not (path.is_relative_to(UI) and len(path.parts) > 3 and path.parts[2] in UNREAD_UI)


def _git_archive(source: Source, scratch: Path) -> Path:
    """The tree at the commit, as git packs it. No history is fetched."""
    commands = (
        ["init", "--quiet"],
        ["fetch", "--quiet", "--depth", "1", "--end-of-options", str(source.git), str(source.commit)],
        ["archive", "--prefix", "llama.cpp/", "--output", "tree.tar", str(source.commit)],
    )
    if not shutil.which("git"):
        raise PaddockError("llama.cpp's source: git is not installed on this machine: install it, or take an archive or sdist")
    for command in commands:
        done = limited(["git", *command], GIT, cwd=scratch, environment=os.environ | {"GIT_TERMINAL_PROMPT": "0"})
        if done.status != 0:
            said = (done.said.split("\n") if done.said else ["it gave no reason"])[-1]
            why = f"failed: {said}" if done.status is not None else f"has not ended within {time_words(GIT.seconds)}"
            raise PaddockError(without_password(f"llama.cpp's source, {source.git}: git {command[0]} of {source.commit} {why}"))
    return scratch / "tree.tar"


def _pack(entries: Iterable[SourceFile], target: Path) -> None:
    with target.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for entry in entries:
            member = tarfile.TarInfo(f"llama.cpp/{entry.name}")
            member.size, member.mode, member.mtime = len(entry.content), 0o755 if entry.executable else 0o644, MTIME_S
            tar.addfile(member, io.BytesIO(entry.content))
