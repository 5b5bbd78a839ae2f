"""What every host needs: Paddock's own directories, the programs that its probe and its checks call, and the right time."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, Package, Resource, Service
from roles.base.settings import BaseSettings

PACKAGES = ("ca-certificates", "curl", "iproute2", "procps")
"""curl is what checks and downloads call, iproute2 brings the `ss` of the probe, procps the `ps` of the checks."""

CLOCKS = {
    "timesyncd": ("systemd-timesyncd", "systemd-timesyncd.service"),
    "chrony": ("chrony", "chrony.service"),
}
"""Who sets the clock → its package and its service."""


def plan(host: Host, settings: BaseSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    yield Directory("/etc/paddock")
    yield Directory("/var/lib/paddock")  # open to all: the models in it are read by the servers' own users
    for name in dict.fromkeys((*PACKAGES, *settings.packages)):
        yield Package(name)
    if settings.time in CLOCKS:
        package, service = CLOCKS[settings.time]
        if package not in settings.packages:
            yield Package(package)
        yield Service(service)
