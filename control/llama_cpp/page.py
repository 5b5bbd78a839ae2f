"""llama.cpp's web page, built from its source with npm: once, for it is the same on every host.

    ~/.cache/paddock/pages/<digest>/    index.html, sw.js, _app/…
    ~/.cache/paddock/pages/npm.log      what npm said last

npm fetches what the source's package-lock.json names, each package checked against the digest there; none runs a script as it is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from control.fetching.limited import limited_command
from control.llama_cpp.node import node_directory
from inventory.bounds import GIT, MIB, WEB_PAGE, size_words, time_words
from inventory.errors import PaddockError

PROGRESS = logging.getLogger("paddock.progress")
CACHE = Path("~/.cache/paddock")

RECIPE = 1
"""Counted up when the same source is to give another page."""

LOOKS_EVERY_S = 5.0
"""How often the size of what npm has written is looked at."""

STEPS = (
    ("fetching its packages", ("npm", "ci", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund")),
    ("building it, which takes a minute or two", ("npm", "run", "build")),
)

CONFIG, GIVEN = "svelte.config.js", "svelte.config.given.js"
VERSIONED = """import config from './{given}';
export default {{ ...config, kit: {{ ...config.kit, version: {{ name: '{version}', ...config.kit?.version }} }} }};
"""
"""SvelteKit calls a page by the time it was built, unless it is told a version: the same source is to give the same bytes."""

PASSED = re.compile(r"(PATH|HOME|TMPDIR|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|(?i:npm_config_\w+|(https?|all|no)_proxy))")
"""What npm and the packages see of the environment. There may be secrets in the rest."""

# The line that says what was wrong, in what npm, node or Vite said, and what stands around it.
COMPLAINTS = (
    r"npm (?:error|ERR!) (?!code |syscall |errno |path |command |cwd |signal |A complete log)(.*\w.*)",
    r"error during build:\n(.+)",
    r"(\w*Error: .+)",
    r"(.+)\s*\Z",
)

Files = Mapping[str, bytes]
"""Content by name, relative to `tools/ui` or to what is made of it."""


def web_page(sources: Files) -> Files:
    """The files of the page that these sources give. Raises PaddockError where it cannot be built."""
    version = digest(sources)
    kept = CACHE.expanduser() / "pages" / version
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _alone(kept.parent / "lock") as lock:
            if not kept.is_dir():
                _build(sources, version, kept, lock)
    files = sorted(file for file in kept.rglob("*") if file.is_file())
    if len(files) > WEB_PAGE.items or sum(file.stat().st_size for file in files) > WEB_PAGE.size:
        most = f"{WEB_PAGE.items:,} {WEB_PAGE.of} or {size_words(WEB_PAGE.size)}"
        raise PaddockError(f"llama.cpp's web page: its source gives more than {most}: `ui: false` at roles.llama_cpp does without it")
    return {str(file.relative_to(kept)): file.read_bytes() for file in files}


def digest(sources: Files) -> str:
    """Thirty-two hex digits over the sources of a page, and what is done with them."""
    lines = (f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(sources.items()))
    return hashlib.sha256(f"{RECIPE}\n{''.join(lines)}".encode()).hexdigest()[:32]


def _build(sources: Files, version: str, kept: Path, lock: int) -> None:
    """In a directory that nobody takes for a page, and that is renamed once it is whole."""
    work, began = kept.parent / "building", time.monotonic()
    shutil.rmtree(work, ignore_errors=True)  # what a killed run left
    try:
        for name, content in _versioned(sources, version).items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        environment = _environment(node_directory())
        with (kept.parent / "npm.log").open("w+", errors="replace") as log:
            for step, command in STEPS:
                PROGRESS.info("llama.cpp's web page: %s", step)
                _run(command, work, environment, log, lock)
        if not (work / "dist/index.html").is_file():
            raise PaddockError(f"llama.cpp's web page: `npm run build` wrote no dist/index.html: {log.name} has its output")
        (work / "dist").rename(kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    PROGRESS.info("llama.cpp's web page: built in %.0f s, and kept", time.monotonic() - began)


def _versioned(sources: Files, version: str) -> Files:
    if CONFIG not in sources:
        return sources
    return {**sources, GIVEN: sources[CONFIG], CONFIG: VERSIONED.format(given=GIVEN, version=version).encode()}


def _environment(node: Path) -> Mapping[str, str]:
    passed = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    return passed | {
        "PATH": f"{node}{os.pathsep}{passed.get('PATH', os.defpath)}",
        "CI": "1",
        "NO_COLOR": "1",
        "TZ": "UTC",
        "DO_NOT_TRACK": "1",
        "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1",
        "npm_config_cache": str(CACHE.expanduser() / "npm"),
        "npm_config_update_notifier": "false",
    }


def _run(command: Sequence[str], work: Path, environment: Mapping[str, str], log: IO[str], lock: int) -> None:
    """`npm` has the lock too: where Paddock is killed, nobody begins anew before npm has ended."""
    began, words = log.seek(0, os.SEEK_END), " ".join(command).partition(" --")[0]
    with subprocess.Popen(
        limited_command(command, GIT),
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(lock,),
        start_new_session=True,
    ) as npm:
        try:
            status = _ended(npm, words, (work, Path(environment["npm_config_cache"])))
        except BaseException:
            os.killpg(npm.pid, signal.SIGKILL)
            raise
    if status:
        log.seek(max(began, log.seek(0, os.SEEK_END) - MIB))
        raise PaddockError(
            f"llama.cpp's web page: `{words}` failed: {complaint(log.read())}"
            f" (the rest is in {log.name}; `ui: false` at roles.llama_cpp does without the page)"
        )


def _ended(npm: subprocess.Popen[bytes], words: str, written: Sequence[Path]) -> int:
    """The status of a command whose files lie in these directories. Raises PaddockError where it takes too long or writes too much."""
    late, before = time.monotonic() + (GIT.seconds or 0), sum(map(_size, written))
    while True:
        try:
            return npm.wait(LOOKS_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > late:
                raise PaddockError(f"llama.cpp's web page: `{words}` has not ended within {time_words(GIT.seconds)}") from None
            if sum(map(_size, written)) - before > GIT.size:
                raise PaddockError(f"llama.cpp's web page: `{words}` writes more than {size_words(GIT.size)}") from None


def _size(directory: Path) -> int:
    """The bytes of the files below a directory, in which others write meanwhile."""
    size = 0
    for inner, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                size += (Path(inner) / name).lstat().st_size
    return size


def complaint(said: str) -> str:
    """The line that says what was wrong."""
    found = (re.search(pattern, said, re.MULTILINE) for pattern in COMPLAINTS)
    return next((match[1].strip() for match in found if match), "it gave no reason")


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            PROGRESS.info("llama.cpp's web page: it is being built already, waiting for that")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
