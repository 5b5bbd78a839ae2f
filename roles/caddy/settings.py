from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from roles.expiry import ExpirySettings
from roles.role import Domain, Endpoint, LocalPath, Matches, Name, RoleSettings, Settings, Sha256, Url, port_of

KNOWN_BAD = {"2.11.3": "refuses every client where a site lists its clients; 2.11.4 does not"}
"""Version of Caddy → why it is not taken."""

OLDEST = (2, 6, 2)

ADMINISTRATION = "127.0.0.1:2019"
"""Where Caddy takes new configurations, which is how `caddy reload` works."""

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

Release = tuple[int, int, int]

Listen = Annotated[
    tuple[Endpoint, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]

Origin = Annotated[str, Matches(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", "is no origin of a web page, such as https://chat.home.example")]
Version = Annotated[str, Matches(r"[0-9]+\.[0-9]+\.[0-9]+", "is no release of Caddy, such as 2.11.3")]
Reason = Annotated[str, Matches(r"[\s\S]*\S[\s\S]*", "is no reason: say in words why it is taken all the same")]
Mailbox = Annotated[str, Matches(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9.-]+", "is no mail address")]
HttpsUrl = Annotated[str, Matches(r"https://[A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]+", "is no web address that begins with https://")]


class Acme(Settings):
    """A certificate authority that gives certificates over ACME, in place of the fleet's own. Clients are asked for the fleet's as ever."""

    email: Mailbox
    """Whom the authority writes to."""

    directory: HttpsUrl = LETS_ENCRYPT
    """The authority. Let's Encrypt unless said; it has to reach the site by its name, on port 443 or 80."""

    root: LocalPath | None = None
    """Of a private authority its root certificate: a PEM file on the control machine, relative to the inventory."""


class Site(Settings):
    """One name that Caddy answers to."""

    upstream: str
    """The host whose llama-server answers, by its name in the inventory. `rig/chat` is its instances of that name, which take turns."""

    clients: tuple[Name, ...] | None = None
    """Which of the fleet's clients are let in; all of them unless said."""

    acme: Acme | None = None
    """Where the site's own certificate comes from, if not from the fleet's CA. Its name may then lie in any domain."""

    origins: tuple[Origin, ...] = ()
    """Web pages of other origins that may call: a browser that holds a certificate shows it for any page that asks it to."""

    answer_within_s: Annotated[int, Field(ge=1)] = 3600
    """How many seconds llama-server may take until its answer begins: before, a large model is read and thinks. There is no other limit."""

    body_limit_mib: Annotated[int, Field(ge=1)] = 256
    """The largest request, with the images in it."""


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


class CaddySettings(RoleSettings):
    """Caddy, which asks every caller for a client certificate of the fleet."""

    listen: Listen = ("0.0.0.0:443",)
    """Where it answers HTTPS: one address, or several with one port, such as `["0.0.0.0:443", "[::]:443"]`."""

    redirect: bool = True
    """Whether plain HTTP, on port 80 of the same addresses, is sent on to HTTPS. For `false`, a shared Caddyfile has to have
    the option `auto_https disable_redirects`."""

    sites: dict[Domain, Site] = {}
    """The names it answers to, and what stands behind each."""

    shared: bool = False
    """Whether /etc/caddy/Caddyfile is somebody else's too. Paddock then adds its one line there, and none of the options that a Caddyfile
    has only once: a change of clients restarts Caddy in place of a reload, for only that ends all that a revoked client has open."""

    grace_period: Annotated[int, Field(ge=0, le=25)] = 10
    """When a client is revoked, how many seconds what is open may go on: then it is ended, whosever it is. With a Caddy that is restarted
    in place of a reload (2.6 and 2.7, or a shared Caddyfile) it ends at once."""

    package: CaddyPackage | None = None
    """A package file in place of the distribution's Caddy."""

    accept: dict[Version, Reason] = {}
    """Releases that Paddock refuses and that are taken all the same, each with the reason: `{"2.11.3": "…"}`."""

    expiry: ExpirySettings = ExpirySettings()
    """When certificates here near their end, and whom that is told."""

    @model_validator(mode="after")
    def _whole(self) -> CaddySettings:
        if not self.listen:
            raise ValueError("listen needs at least one address, such as 0.0.0.0:443")
        if len({port_of(each) for each in self.listen}) > 1:
            raise ValueError("listen has several ports, and a site has one: give all its addresses the same")
        if self.package and (why := refusal(self.package.version, self.accept)):
            raise ValueError(f"package.version: {why}")
        return self

    @property
    def port(self) -> int:
        """Where all sites answer."""
        return port_of(self.listen[0])

    def endpoints(self) -> Iterator[str]:
        if self.sites:
            yield from self.listen
            if self.redirect:
                yield from (f"{each.rpartition(':')[0]}:80" for each in self.listen)
        if self.shared:
            yield ADMINISTRATION


def release_of(version: str) -> Release:
    """`2.11.4-1` → `(2, 11, 4)`; of a version that nobody knows the oldest"""
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else OLDEST


def refusal(version: str, accept: Mapping[str, Any]) -> str:
    """Why a version of Caddy is not taken, and what to do; empty where it is."""
    release = ".".join(map(str, release_of(version)))
    if release_of(version) < OLDEST:
        return f"Caddy {release} is older than {'.'.join(map(str, OLDEST))}, the oldest that Paddock knows"
    if release in KNOWN_BAD and release not in accept:
        return f'Caddy {release} {KNOWN_BAD[release]}; if you must, say why under `accept: {{"{release}": "…"}}`'
    return ""
