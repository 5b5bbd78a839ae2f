from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import field_validator, model_validator

from roles.role import Domain, Endpoint, LocalPath, Matches, Name, RoleSettings, Settings, Sha256, Url

KNOWN_BAD = {"2.11.3": "refuses every client where a site lists its clients; 2.11.4 does not"}
"""Version of Caddy → why it is not taken."""

OLDEST = (2, 6, 2)

ADMINISTRATION = "127.0.0.1:2019"
"""Where Caddy takes new configurations, which is how `caddy reload` works."""


class Site(Settings):
    """One name that Caddy answers to."""

    upstream: str
    """The host whose llama-server answers, by its name in the inventory. `rig/chat` is its instances of that name, which take turns."""

    clients: tuple[Name, ...] | None = None
    """Which of the fleet's clients are let in; all of them unless said."""


class CaddyPackage(Settings):
    """A newer Caddy than the distribution's: one package file."""

    url: Url | None = None
    """Where the control machine fetches it."""

    path: LocalPath | None = None
    """Or where it lies on the control machine."""

    sha256: Sha256
    """Its digest."""

    version: Annotated[str, Matches(r"[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+~-]*", "is no version of Caddy's package, such as 2.11.4-1")]
    """Its exact version, as dpkg shows it: `2.11.4-1`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> CaddyPackage:
        if bool(self.url) == bool(self.path):
            raise ValueError("needs exactly one of url and path")
        return self

    @field_validator("version")
    @classmethod
    def _no_bad_one(cls, version: str) -> str:
        release = ".".join(map(str, release_of(version)))
        if release in KNOWN_BAD:
            raise ValueError(f"Caddy {release} {KNOWN_BAD[release]}")
        if release_of(version) < OLDEST:
            raise ValueError(f"Caddy {release} is older than {'.'.join(map(str, OLDEST))}, the oldest that Paddock knows")
        return version


class CaddySettings(RoleSettings):
    """Caddy, which asks every caller for a client certificate of the fleet."""

    listen: Endpoint = "0.0.0.0:443"
    """Where it answers HTTPS."""

    redirect: bool = True
    """Whether plain HTTP, on port 80 of the same address, is sent on to HTTPS. `false` needs a Caddyfile without global options."""

    sites: dict[Domain, Site] = {}
    """The names it answers to, and what stands behind each."""

    package: CaddyPackage | None = None
    """A package file in place of the distribution's Caddy."""

    def endpoints(self) -> Iterator[str]:
        if self.sites:
            yield self.listen
            if self.redirect:
                yield f"{self.listen.rpartition(':')[0]}:80"
        yield ADMINISTRATION


def release_of(version: str) -> tuple[int, int, int]:
    """`2.11.4-1` → `(2, 11, 4)`"""
    major, minor, patch = (int(number) for number in re.findall(r"[0-9]+", version)[:3])
    return major, minor, patch
