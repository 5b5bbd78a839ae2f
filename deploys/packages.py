"""Packages: of the distribution by pyinfra's own operation, newer ones from a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pyinfra.operations import apt

from control.deployment.work import Work
from deploys.applying import apply
from resources import File, Package, Resource, Service, of_kind
from resources.drift import Change
from resources.steps import Steps

APT_CONFIG = "/run/paddock/apt.conf"
"""Makes an update that reached nobody fail: apt would go on with a warning, and pyinfra would not try again for an hour.
And leaves dpkg's errors on standard error: through a terminal of apt's own they would come out of standard output."""

DROPIN = re.compile(r"/etc/systemd/system/([^/]+\.service)\.d/[^/]+")


def installed(wrong: Sequence[Resource], work: Work) -> None:
    """The packages that are missing, while the services that they bring are held back."""
    packages = of_kind(wrong, Package)
    if not packages:
        return
    if steps := _holds(work):
        apply(name="services held back", steps=steps)
    if names := [each.name for each in packages if not each.version]:
        of_the_distribution("packages", names)
    if any(each.version and not each.deb for each in packages):
        apt_ready("packages")
    for package in packages:
        if package.version:
            steps = Steps()
            package.land(steps, work)
            apply(name=f"package {package.name} {package.version}", steps=steps)


def tried(wrong: Sequence[Resource], work: Work) -> None:
    """The gates of what is to be another version of what is installed."""
    packages = [each for each in of_kind(wrong, Package) if each.id in work.actual.resources]
    files = of_kind(work.wrong(File), File)
    for package in packages:
        if package.gate:
            steps = Steps()
            package.try_out(steps, work, files)
            apply(name=f"package {package.name} {package.version}: gate", steps=steps)


def of_the_distribution(name: str, packages: Sequence[str]) -> None:
    """The packages, without those that they only recommend."""
    apt_ready(name)
    apt.packages(name=name, packages=list(packages), update=True, cache_time=3600, no_recommends=True, _env={"APT_CONFIG": APT_CONFIG})


def apt_ready(name: str) -> None:
    """Waits for whoever is at work with apt, and mends what a dead run left."""
    steps = Steps()
    steps.add("package_ready", APT_CONFIG)
    apply(name=f"{name}: apt made ready", steps=steps)


def unheld(steps: Steps, work: Work, changes: Iterable[Change]) -> None:
    """Lets go of the services that come with a package, once their drop-ins have landed."""
    for name in _of_packages(work, [change.resource for change in changes if change.resource]):
        steps.add("service_unhold", name)
        steps.add("systemctl", "daemon-reload")


def _holds(work: Work) -> Steps:
    steps = Steps()
    names = [service.name for service in of_kind(work.wrong(Service), Service)] + _of_packages(work, work.wrong(File))
    for name in names:
        steps.add("service_hold", name)
    if names:
        steps.add("systemctl", "daemon-reload")
    return steps


def _of_packages(work: Work, files: Sequence[Resource]) -> list[str]:
    """The services that no plan names and that are given a drop-in: one that comes with a package starts with it, or not at all."""
    declared = {each.name for each in of_kind(work.resources, Service)}
    named = (found[1] for each in of_kind(files, File) if (found := DROPIN.fullmatch(each.path)))
    return [name for name in dict.fromkeys(named) if name not in declared]
