"""How a release is built on a host: the script, and the transient unit that it runs as."""

from __future__ import annotations

from resources import Release, User
from roles.llama_cpp.packages import UNPACKED_MIB
from roles.llama_cpp.toolchain import DISK_MIB
from roles.role import render

WORK = "/var/lib/paddock/build"
ROOTS = "/var/lib/paddock/roots"
CACHE = "/var/cache/paddock"
CCACHE = f"{CACHE}/ccache"

ACCOUNT = User("paddock-build", WORK)
"""Who builds: it owns the directory of the build and the cache, and nothing else."""


def unit(release: Release) -> str:
    """`paddock-build-3f2a9c0d1e4b.service`"""
    return f"paddock-build-{release.fingerprint[:12]}.service"


def work(release: Release) -> str:
    """The directory that the release is built in; it is gone once that is done."""
    return f"{WORK}/{release.fingerprint}"


def root(release: Release) -> str:
    """The tree of another release of Debian that it is compiled in; empty where the builder's own will do."""
    return f"{ROOTS}/{release.suite}" if release.suite else ""


def packages(release: Release) -> str:
    """The directory of the packages that it is made of; empty where it is compiled."""
    return f"{CACHE}/packages/{release.fingerprint}" if release.downloads else ""


def artifact(release: Release) -> str:
    """Where the build leaves the packed release, until it is fetched."""
    return f"{work(release)}/{release.name}.tar.gz"


VERSION_S = 120
"""What a llama-server that was built may take to say its version, on the slowest machine."""


def script(release: Release, *, work: str, packed: str = "", ccache: str = CCACHE) -> str:
    """The shell script that makes the release in the directory `work`, of the `source.tar.gz` there or of packages, and leaves it packed in
    `packed`, or nothing."""
    return render(
        "llama_cpp/build.sh.j2",
        work=work,
        ccache=ccache,
        packed=packed or artifact(release),
        name=release.name,
        fingerprint=release.fingerprint,
        options=[f"-D{name}={value}" for name, value in release.options],
        targets=release.targets,
        jobs=release.jobs,
        build_mib=(UNPACKED_MIB if release.downloads else DISK_MIB)[release.backend],
        packages=packages(release),
        triplet=release.triplet,
        version_s=VERSION_S,
    )
