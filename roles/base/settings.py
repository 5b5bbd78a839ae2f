from __future__ import annotations

from typing import Annotated, Literal

from roles.role import Matches, RoleSettings

PackageName = Annotated[str, Matches(r"[a-z0-9][a-z0-9+.-]+", "is no package name: lower-case letters, digits, + . and -")]


class BaseSettings(RoleSettings):
    """What every host needs: the right time, and the few programs that the other roles call."""

    time: Literal["timesyncd", "chrony", "elsewhere"] = "timesyncd"
    """Who sets the clock: systemd-timesyncd, chrony, or something that Paddock does not manage (a container's host, a hypervisor)."""

    packages: tuple[PackageName, ...] = ()
    """Further packages of the distribution."""
