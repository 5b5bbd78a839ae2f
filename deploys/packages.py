"""Packages of the distribution, by pyinfra's own operation."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.operations import apt

from deploys.applying import Steps, apply

APT_CONFIG = "/run/paddock/apt.conf"
"""Makes an update that reached nobody fail: apt would go on with a warning, and pyinfra would not try again for an hour.
And leaves dpkg's errors on standard error: through a terminal of apt's own they would come out of standard output."""


def installed(name: str, packages: Sequence[str]) -> None:
    """The packages, without those that they only recommend."""
    apt_ready(name)
    apt.packages(name=name, packages=list(packages), update=True, cache_time=3600, no_recommends=True, _env={"APT_CONFIG": APT_CONFIG})


def apt_ready(name: str) -> None:
    """Waits for whoever is at work with apt, and mends what a dead run left."""
    steps = Steps()
    steps.add("apt_ready", APT_CONFIG)
    apply(name=f"{name}: apt made ready", steps=steps)
