"""A release on a host: packed where it lies, or built, as a transient unit that is watched from here. A failure is told in the compiler's
words."""

from __future__ import annotations

import base64
import io
import logging
import tarfile
from collections.abc import Generator
from shlex import quote

import gevent
from pyinfra import host
from pyinfra.api import StringCommand, operation

from control.deployment.work import Wanted
from deploys.applying import Failure
from facts.build import Build, BuildStatus
from inventory.errors import PaddockError
from resources import Release

PROGRESS = logging.getLogger("paddock.progress")

POLL_S = 1
ANSWER_TIMEOUT_S = 60

LOST = Build("absent", result="lost")

# One build a host at a time: what another fingerprint left, running or failed, is of no use to anybody any more.
# RemainAfterExit, so that a later run sees how it ended; no network, so that nothing is built but what was sent.
START = """set -eu; LC_ALL=C; export LC_ALL; at={at}; trap '[ $? = 0 ] || echo "$at" >&2' EXIT
systemctl stop --quiet 'paddock-build-*' 2>/dev/null || true; systemctl reset-failed --quiet 'paddock-build-*' 2>/dev/null || true
mkdir -p {all}; find {all} -mindepth 1 -maxdepth 1 ! -path {packed} -exec rm -rf {{}} +; mkdir -p {work} {ccache}
said=$(base64 -d | tar -xf - -C {work} 2>&1) || {{ printf '%s\\n' "$said" | head -n 1 >&2; exit 1; }}
systemd-run --quiet --unit={unit} --description={description} --remain-after-exit --nice=10 \
-p CPUWeight=20 -p IOWeight=20 -p OOMScoreAdjust=500 -p PrivateNetwork=yes -p TimeoutStopSec=10{within} /bin/sh {work}/build.sh"""

WITHIN = " -p RootDirectory={root} -p MountAPIVFS=yes -p BindPaths={all} -p BindPaths={ccache}"
"""In the tree of another release of Debian, with what is to be seen from both sides."""


@operation(is_idempotent=False)
def compiled(wanted: Wanted) -> Generator[StringCommand, None, None]:
    """Starts the build unless it runs already, and waits for its end."""
    unit = wanted.recipe.unit
    yield StringCommand("true  # an earlier run began it") if _status(unit).state in ("running", "done") else _start(wanted)
    shown = ""
    while (build := _status(unit)).state == "running":
        if build.progress not in ("", shown):
            shown = build.progress
            PROGRESS.info("%s: llama.cpp %s: %s", host.name, wanted.release.version, shown)
        gevent.sleep(POLL_S)
    if build.state != "done":
        yield Failure(_words(build, wanted))
    yield StringCommand("systemctl", "stop", unit)


PACK = """set -eu; LC_ALL=C; export LC_ALL; at={at}; trap '[ $? = 0 ] || echo "$at" >&2' EXIT
mkdir -p {all}
said=$(tar -czf {packed}.part --owner=root:0 --group=root:0 -C {releases} {name} 2>&1) ||
  {{ printf '%s\\n' "$said" | head -n 1 >&2; exit 1; }}
mv -T {packed}.part {packed}"""


@operation(is_idempotent=False)
def packed(wanted: Wanted) -> Generator[StringCommand, None, None]:
    """Packs a release that the host has, as a build would leave it."""
    release, recipe = wanted.release, wanted.recipe
    yield StringCommand(
        PACK.format(
            at=quote(_at(release)),
            all=recipe.directories,
            packed=quote(recipe.artifact),
            releases=quote(release.path.rpartition("/")[0]),
            name=quote(release.name),
        )
    )


@operation(is_idempotent=False)
def fetched(wanted: Wanted) -> Generator[StringCommand, None, None]:
    """Brings what was built or packed into the fleet's artifacts, and frees the host of it."""
    release, recipe = wanted.release, wanted.recipe
    place = wanted.artifacts.directory / f".{release.name}.part"
    try:
        wanted.artifacts.state.directory("artifacts")
        if not host.get_file(recipe.artifact, str(place)):
            yield Failure(["it cannot be fetched from the host that has it", _at(release)])
            return
        if wanted.source is None:
            wanted.artifacts.take_back(place, release)
        else:
            wanted.artifacts.add(place, release, wanted.distribution)
    except PaddockError as error:
        yield Failure([str(error), _at(release)])
        return
    finally:
        place.unlink(missing_ok=True)
    yield StringCommand(f"rm -f {quote(recipe.artifact)}; rmdir --ignore-fail-on-non-empty {recipe.directories}")


def _status(unit: str) -> Build:
    with gevent.Timeout(ANSWER_TIMEOUT_S, False):  # around all of it: opening a channel on a dead connection knows no end of its own
        found: Build | None = host.get_fact(BuildStatus, unit=unit, _ignore_errors=True)
        return found or LOST
    return LOST


def _start(wanted: Wanted) -> StringCommand:
    release, recipe = wanted.release, wanted.recipe
    description = quote(f"llama.cpp {release.version} for this machine")
    within = WITHIN.format(root=recipe.root, all=recipe.directories, ccache=recipe.ccache) if recipe.root else ""
    assert wanted.source
    command = START.format(
        at=quote(_at(release)),
        all=recipe.directories,
        packed=quote(recipe.artifact),
        work=recipe.directory,
        unit=recipe.unit,
        description=description,
        ccache=recipe.ccache,
        within=within,
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in (("build.sh", recipe.script.encode()), ("source.tar.gz", wanted.source.read_bytes())):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
    return StringCommand(command, _stdin=base64.encodebytes(packed.getvalue()).decode())


def _at(release: Release) -> str:
    """How a host says which resource was at work (see resources/base.sh)."""
    return f"paddock-at: {release.id}"


def _words(build: Build, wanted: Wanted) -> list[str]:
    """Why there is no release, as a host says it: what led to it, then what it was in one line, then which resource was at work."""
    release, recipe = wanted.release, wanted.recipe
    if build is LOST:
        return ["the connection was lost; the build goes on there, and another `paddock up` will find it", _at(release)]
    if build.state == "absent":
        return ["the host does not know of the build any more (was it restarted?): `paddock up` builds it anew", _at(release)]
    first, *more = (line.replace(f"{recipe.directory}/source/", "") for line in build.why)
    log = f"the whole log is on the host: journalctl -u {recipe.unit}"
    return [*more, log, f"llama.cpp {release.version} is not built: {first}", _at(release)]
