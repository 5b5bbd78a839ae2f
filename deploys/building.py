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
# RemainAfterExit, so that a later run sees how it ended. A build before this version ran as root, and left its cache to root.
START = """set -eu; umask 022; LC_ALL=C; export LC_ALL; at={at}; trap '[ $? = 0 ] || echo "$at" >&2' EXIT
systemctl stop --quiet 'paddock-build-*' 2>/dev/null || true; systemctl reset-failed --quiet 'paddock-build-*' 2>/dev/null || true
install -d -m 755 {all} {cache}; mkdir -p {ccache}; find {all} -mindepth 1 -maxdepth 1 ! -path {work} -exec rm -rf {{}} +
[ -f {packed} ] || rm -rf {work}; mkdir -p {work}
said=$(base64 -d | tar -xf - -C {work} 2>&1) || {{ printf '%s\\n' "$said" | head -n 1 >&2; exit 1; }}
find {work} {ccache} ! -user {account} \\( -type d -o -links 1 \\) -exec chown -h {account}: {{}} +
systemd-run --quiet --unit={unit} --description={description} --remain-after-exit --nice=10 {properties} /bin/sh {work}/build.sh"""

PROPERTIES = (
    *("CPUWeight=20", "IOWeight=20", "OOMScoreAdjust=500", "TimeoutStopSec=10"),
    # The source is somebody else's program: it writes where it builds, and reaches nobody.
    *("User={account}", "UMask=0022", "CapabilityBoundingSet=", "NoNewPrivileges=yes"),
    *("PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"),
    *("ProtectSystem=strict", "ReadWritePaths=+{work}", "ReadWritePaths=+{ccache}", "ProtectHome=yes", "PrivateTmp=yes"),
    *("PrivateDevices=yes", "PrivateIPC=yes", "RemoveIPC=yes", "ProtectProc=invisible", "ProtectClock=yes", "ProtectHostname=yes"),
    *("ProtectControlGroups=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes"),
    *("RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
    *("SystemCallArchitectures=native", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged", "SystemCallErrorNumber=EPERM"),
)

WITHIN = ("RootDirectory={root}", "MountAPIVFS=yes", "BindPaths={work}", "BindPaths={ccache}")
"""In the tree of another release of Debian, with what is to be seen from both sides."""

# The account runs nothing any more: what it has left cannot change while it is read.
ENDED = """systemctl stop {unit}; [ -f {packed} ] && [ ! -L {packed} ] || {{ echo 'the build left nothing: `paddock up` builds it anew' >&2
echo {at} >&2; exit 1; }}"""


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
    yield StringCommand(ENDED.format(unit=unit, packed=quote(wanted.recipe.artifact), at=quote(_at(wanted.release))))


PACK = """set -eu; LC_ALL=C; export LC_ALL; at={at}; trap '[ $? = 0 ] || echo "$at" >&2' EXIT
rm -rf {work}; mkdir -p {work}
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
            work=recipe.directory,
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
        if wanted.is_there:
            wanted.artifacts.take_back(place, release)
        else:
            wanted.artifacts.add(place, release, wanted.distribution)
    except PaddockError as error:
        yield Failure([str(error), _at(release)])
        return
    finally:
        place.unlink(missing_ok=True)
    packages = recipe.packages.rpartition("/")[0]
    yield StringCommand(f"rm -rf {recipe.directory} {packages}; rmdir --ignore-fail-on-non-empty {recipe.directories}")


def _status(unit: str) -> Build:
    with gevent.Timeout(ANSWER_TIMEOUT_S, False):  # around all of it: opening a channel on a dead connection knows no end of its own
        found: Build | None = host.get_fact(BuildStatus, unit=unit, _ignore_errors=True)
        return found or LOST
    return LOST


def properties(wanted: Wanted) -> list[str]:
    """Of the unit that builds: what it may do on the host."""
    recipe = wanted.recipe
    given = {"account": recipe.account.name, "work": recipe.directory, "ccache": recipe.ccache, "root": recipe.root}
    return [each.format(**given) for each in (*PROPERTIES, *(WITHIN if recipe.root else ()))]


def _start(wanted: Wanted) -> StringCommand:
    release, recipe = wanted.release, wanted.recipe
    description = quote(f"llama.cpp {release.version} for this machine")
    command = START.format(
        at=quote(_at(release)),
        all=recipe.directories,
        packed=quote(recipe.artifact),
        work=recipe.directory,
        unit=recipe.unit,
        description=description,
        account=recipe.account.name,
        cache=recipe.cache,
        ccache=recipe.ccache,
        properties=" ".join(f"-p {quote(each)}" for each in properties(wanted)),
    )
    packed = io.BytesIO()
    sent = {"build.sh": recipe.script.encode(), **({"source.tar.gz": wanted.source.read_bytes()} if wanted.source else {})}
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in sent.items():
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
