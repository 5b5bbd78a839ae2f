"""Has a release from the host that this is called for: packed where it lies there, else built. The build is a unit of the host's own: it
goes on when nobody watches."""

from __future__ import annotations

from control.deployment.work import Wanted
from deploys.applying import apply
from deploys.building import compiled, fetched, packed
from deploys.packages import of_the_distribution
from deploys.users import account
from resources.steps import Steps


def build(wanted: Wanted) -> None:
    """Ends when the release is among the fleet's artifacts, or with the host failed and why on stderr."""
    name = f"llama.cpp {wanted.release.version}"
    if wanted.is_there:
        packed(name=f"{name}: pack", wanted=wanted)
    else:
        _built(name, wanted)
    fetched(name=f"{name}: fetch", wanted=wanted)


def _built(name: str, wanted: Wanted) -> None:
    of_the_distribution(f"{name}: compiler", wanted.release.packages)
    account(f"{name}: account", wanted.recipe.account)
    if wanted.release.suite:
        steps = Steps()
        steps.add("release_root", wanted.recipe.root, wanted.release.suite, *wanted.release.inside)
        apply(name=f"{name}: a tree of Debian {wanted.release.suite}", steps=steps)
    if wanted.recipe.packages:
        steps = Steps()
        steps.add("release_packages", wanted.release.current, wanted.recipe.packages, *wanted.release.downloads)
        apply(name=f"{name}: packages", steps=steps)
    compiled(name=f"{name}: build", wanted=wanted)
