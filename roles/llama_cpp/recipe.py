"""How a release is built on a host: the script, and the transient unit that it runs as."""

from __future__ import annotations

from shlex import quote

from roles.resources import Release
from roles.role import render

WORK = "/var/lib/paddock/build"
CCACHE = "/var/cache/paddock/ccache"

BUILD_MIB = 700
"""What the unpacked source and the build directory take at most, twice over."""

RELEASE_MIB = 150
"""What a release takes, several times over."""


def unit(release: Release) -> str:
    """`paddock-build-3f2a9c0d1e4b.service`"""
    return f"paddock-build-{release.fingerprint[:12]}.service"


def work(release: Release) -> str:
    """The directory that the release is built in; it is gone once that is done."""
    return f"{WORK}/{release.fingerprint}"


def script(release: Release, *, work: str, ccache: str = CCACHE) -> str:
    """The shell script that builds `source.tar.gz` in the directory `work`, and leaves the whole release at `release.path`, or nothing."""
    parent, _, name = release.path.rpartition("/")
    return render(
        "llama_cpp/build.sh.j2",
        work=quote(work),
        ccache=quote(ccache),
        release=quote(release.path),
        staged=quote(f"{parent}/.{name}"),
        fingerprint=quote(release.fingerprint),
        options=[quote(f"-D{name}={value}") for name, value in release.options],
        targets=[quote(target) for target in release.targets],
        jobs=release.jobs,
        build_mib=BUILD_MIB,
        release_mib=RELEASE_MIB,
    )
