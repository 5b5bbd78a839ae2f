"""Builds a release on the host that this is called for. The build is a unit of the host's own: it goes on when nobody watches."""

from __future__ import annotations

from control.work import Wanted
from deploys.applying import Steps, apply
from deploys.building import compiled, fetched
from deploys.packages import installed
from roles.llama_cpp.recipe import root


def build(wanted: Wanted) -> None:
    """Ends when the release is among the fleet's artifacts, or with the host failed and why on stderr."""
    name = f"llama.cpp {wanted.release.version}"
    installed(f"{name}: compiler", wanted.release.packages)
    if wanted.release.suite:
        steps = Steps()
        steps.add("root", root(wanted.release), wanted.release.suite, *wanted.release.inside)
        apply(name=f"{name}: a tree of Debian {wanted.release.suite}", steps=steps)
    compiled(name=f"{name}: build", release=wanted.release, source=wanted.source)
    fetched(name=f"{name}: fetch", wanted=wanted)
