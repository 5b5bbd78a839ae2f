from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from roles.expiry import ExpirySettings
from roles.package_file import PackageFile
from roles.role import LINE_ENDS, AtServer, Domain, Endpoint, LocalFile, Matches, Name, RoleSettings, Settings, port_of

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal
from roles.ends import leads_nowhere
from roles.references import Finding, Whole
from roles.server import SERVER_DAYS, Entrance
from roles.upstream import FRONTS, Behind, OfFront, OfLangfuse, front
from roles.wording import quoted

KNOWN_BAD = {"2.11.3": "rejects every client of a site that lists its clients; 2.11.4 does not"}
"""Version of Caddy → why it is refused."""

OLDEST = (2, 6, 2)

ADMINISTRATION = "127.0.0.1:2019"
"""The address of Caddy's API, which `caddy reload` uses."""

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

CaddyVersion = tuple[int, int, int]

Listen = Annotated[
    tuple[Endpoint, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]

WebOrigin = Annotated[
    str, Matches(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", "is not a web origin, such as https://chat.home.example", unbroken=True)
]
Version = Annotated[str, Matches(r"[0-9]+\.[0-9]+\.[0-9]+", "is not a version of Caddy, such as 2.11.3")]
Reason = Annotated[str, Matches(rf"[^{LINE_ENDS}]*[^\s{LINE_ENDS}][^{LINE_ENDS}]*", "is not a reason: explain why this version is used")]
Mailbox = Annotated[str, Matches(r"[A-Za-z0-9.!#$%&'*+/=?^_|~-]+@[A-Za-z0-9.-]+", "is not an e-mail address", unbroken=True)]
ROUTE = r"(GET|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+(/\*)?"
Route = Annotated[str, Matches(ROUTE, "is not a method and a path, such as GET /metrics or GET /slots/*")]
HttpsUrl = Annotated[
    str, Matches(r"https://[A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]+", "is not a URL that begins with https://", unbroken=True), AtServer
]


LISTED = ("/v1/models", "/models", "/models/sse", "/props")
"""Shown to clients by the model list (services/caddy): llama-server's own answers have command lines and paths in them."""


class Acme(Settings):
    """A certificate authority that issues the site's certificate over ACME, instead of the fleet's CA. Clients still need the fleet's
    certificates."""

    email: Mailbox
    """The contact address for the authority."""

    directory: HttpsUrl = LETS_ENCRYPT
    """The authority's ACME directory; by default Let's Encrypt. The authority must reach the site by its name on port 443 or 80."""

    root: LocalFile | None = None
    """The root certificate of a private authority: a PEM file on the control machine, relative to the inventory."""


class Site(Settings):
    """A site: one host name that Caddy serves."""

    upstream: Behind
    """The host whose llama-server answers. `rig/chat` means all servers of its instance `chat`.
    A group's name means all of its hosts, `[halo, rig/chat]` all that are named, and `{model: chat}` every server of the fleet that serves
    `chat`. Of several a request goes to one that is up, the one with the fewest requests. `{gateway: HOST}` is the gateway
    of the same host, and `{litellm: HOST}` its LiteLLM, which ask each caller for a key, and say themselves what users may ask for.
    `{langfuse: HOST}` is Langfuse of the same host: its page, and where traces go."""

    clients: tuple[Name, ...] | None = None
    """The clients that the site admits; by default all of the fleet's."""

    routes: tuple[Route, ...] = ()
    """Further requests that clients may make, each a method and a path: `[GET /metrics, "POST /models/load"]`. `/*` at the end stands for
    all paths below. Without it clients may use models, list them, and open the web page; only clients with `admin: true` may do more."""

    acme: Acme | None = None
    """A public authority for the site's certificate, instead of the fleet's CA. The site's name may then be in any domain."""

    origins: tuple[WebOrigin, ...] = ()
    """Origins of other web pages that may call the site: `[https://chat.home.example]`. The site answers a browser's preflight, and lets
    these pages read its answers. By default none: a browser presents its certificate for requests of any page."""

    answer_within_s: Annotated[int, Field(ge=1)] = 3600
    """Seconds until llama-server's response must begin; loading a large model and a long prompt count. The response itself has no time
    limit."""

    body_limit_mib: Annotated[int, Field(ge=1)] = 256
    """The largest request body in MiB, including images."""


class CaddyPackage(PackageFile):
    """A package file with a newer Caddy than the distribution's."""

    version: Annotated[str, Matches(r"[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+~-]*", "is not a version of the Caddy package, such as 2.11.4-1")]
    """The exact version, as dpkg shows it: `2.11.4-1`."""


class CaddySettings(RoleSettings):
    """Caddy as a reverse proxy that requires a client certificate of the fleet from every caller."""

    listens_by_family: ClassVar[bool] = True

    listen: Listen = ("0.0.0.0:443",)
    """The listening address for HTTPS, or several addresses with the same port, such as `["0.0.0.0:443", "[::]:443"]`."""

    redirect: bool = True
    """Redirect plain HTTP on port 80 of the same addresses to HTTPS. In a shared Caddyfile its options decide, and this has to say the
    same: `false` with `auto_https disable_redirects`, with another `http_port`, or where a site answers every name on port 80."""

    sites: dict[Domain, Site] = {}
    """The sites, by host name."""

    shared: bool = False
    """Set this if /etc/caddy/Caddyfile also contains other sites or options. Paddock then adds only its `import` line and no global
    options, and the fleet's sites share the addresses of the others. When a client is revoked Caddy is restarted instead of reloaded,
    because only a restart ends all of its connections."""

    catch_all: bool | None = None
    """End each TLS connection that names no site: one without a name (SNI), with an address, or with an unknown name. By default yes, and
    with `shared` no: it would have callers of other sites on the same addresses, which have no `tls` settings of their own, show a client
    certificate of the fleet. `plan` names these sites."""

    sandbox: bool | None = None
    """Run Caddy in systemd's sandbox. By default yes, and with `shared` no: it would hide home directories from the other sites, and keep
    them from writing outside of /var/lib/caddy and /var/log/caddy. `plan` names their files that it would hide or protect."""

    grace_period: Annotated[int, Field(ge=0, le=25)] = 10
    """When a client is revoked: seconds until all connections that were open then are ended, those of other clients too. If Caddy is
    restarted instead of reloaded (2.6 and 2.7, or a shared Caddyfile), they end at once."""

    package: CaddyPackage | None = None
    """A package file to install instead of the distribution's Caddy."""

    accept: dict[Version, Reason] = {}
    """Versions to use although Paddock refuses them, each with a reason: `{"2.11.3": "…"}`."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings about certificates on this host that are about to expire."""

    @model_validator(mode="after")
    def _whole(self) -> CaddySettings:
        if not self.listen:
            raise ValueError("listen needs at least one address, such as 0.0.0.0:443")
        if len({port_of(each) for each in self.listen}) > 1:
            raise ValueError("listen has several ports: use the same port for all addresses")
        if self.package and (why := refusal(self.package.version, self.accept)):
            raise ValueError(f"package.version: {why}")
        return self

    @property
    def catches_all(self) -> bool:
        return bool(self.sites) and (not self.shared if self.catch_all is None else self.catch_all)

    @property
    def is_sandboxed(self) -> bool:
        return not self.shared if self.sandbox is None else self.sandbox

    @property
    def port(self) -> int:
        """The port of all sites."""
        return port_of(self.listen[0])

    def endpoints(self) -> Iterator[str]:
        if self.sites:
            yield from self.listen
            if self.redirect:
                yield from (f"{each.rpartition(':')[0]}:80" for each in self.listen)
        if self.shared:
            yield ADMINISTRATION

    def apart(self, endpoint: str) -> str:
        """Of two on one port one is the redirect's."""
        return "set `redirect: false`, or serve the sites on another port than 80"

    def server_names(self) -> Iterator[tuple[str, str]]:
        return ((name, "sites") for name, site in self.sites.items() if not site.acme)

    def package_files(self) -> Iterator[tuple[str, str, PackageFile]]:
        if self.package:
            yield "caddy", "package", self.package

    def rehearsed(self, here: Rehearsal) -> tuple[CaddySettings, list[str]]:
        """A public authority cannot reach a lab, so that there the fleet's own CA signs, in the fleet's domain."""
        moved, told = here.moved(self)
        listen = tuple(dict.fromkeys(here.there(each) for each in self.listen))
        if listen != self.listen:
            told.append(f"{here.host}: caddy.listen is {', '.join(listen)} in place of {', '.join(self.listen)}.")
        sites = dict(self.sites)
        for name, site in self.sites.items():
            if site.acme and not site.acme.root:
                sites[name] = site.model_copy(update={"acme": None})
                if name == here.domain or name.endswith(f".{here.domain}"):
                    told.append(f"{here.host}: the certificate of {name} is the fleet's own, in place of a public authority's.")
                else:
                    del sites[name]
                    told.append(f"{here.host}: {name} is left out: only a public authority could sign for it.")
        for name, site in list(sites.items()):
            if isinstance(site.upstream, OfFront) and front(site.upstream)[::-1] in here.left_out:
                del sites[name]
                told.append(f"{here.host}: the site {name} is left out: a lab has nothing that it leads to.")
        expiry, quietly = self.expiry.rehearsed(here)
        return moved.model_copy(update={"listen": listen, "sites": sites, "expiry": expiry}), [*told, *quietly]

    def entrances(self, host: str, address: str, clients: tuple[str, ...]) -> Iterator[Entrance]:
        for name, site in self.sites.items():
            yield Entrance(name, host, address, self.port, site, clients if site.clients is None else site.clients)

    def details(self) -> Iterable[str]:
        return self.sites

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """A site lies in the certificates' domain, leads to a server that can be reached, and lets in clients that the fleet has; its name
        leads to one host."""
        for name, site in self.sites.items():
            keys = ("roles", "caddy", "sites", name)
            if fleet.domain and not site.acme and name != fleet.domain and not name.endswith(f".{fleet.domain}"):
                words = f"{quoted(name)} is not in the domain {fleet.domain}, which the fleet's certificates are limited to: "
                words += "choose another name, or set acme for a certificate of a public authority"
                yield Finding(keys, words)
            yield from (Finding((*keys, "upstream", *at), words, of_value=True) for at, words in leads_nowhere(site.upstream, host, fleet))
            if isinstance(site.upstream, OfFront) and site.routes:
                words = f"{FRONTS[front(site.upstream)[0]]} says itself what its users may ask for: leave routes out"
                yield Finding((*keys, "routes"), words)
            if words := _sends_elsewhere(name, self.port, site, fleet):
                yield Finding((*keys, "upstream", "langfuse"), words, of_value=True)
            for number, route in enumerate(site.routes):
                if words := _never_open(route):
                    yield Finding((*keys, "routes", str(number)), f"{quoted(route)} {words}", of_value=True)
            for number, client in enumerate(site.clients or ()):
                yield from fleet.no_client(client, (*keys, "clients", str(number)))
            if (first := fleet.entrances[name][0].host) != host:
                yield Finding(keys, f"{quoted(name)} is a site of host {quoted(first)} already: a name must be unique in the fleet")
        if words := self.expiry.too_early(self._lives(fleet)):
            yield Finding(("roles", "caddy", "expiry", "days"), words, of_value=True)

    def _lives(self, fleet: Whole) -> Iterator[int]:
        """How many days the certificates live that are looked at here: those of the sites, and of the clients that they let in."""
        yield from (SERVER_DAYS for site in self.sites.values() if not site.acme)
        named = [site.clients for site in self.sites.values()]
        yield from (days for client, days in fleet.days.items() if any(each is None or client in each for each in named))


def _sends_elsewhere(name: str, port: int, site: Site, fleet: Whole) -> str:
    """Why Langfuse's page would send people who sign in there to another address; empty where it would not."""
    if not isinstance(site.upstream, OfLangfuse):
        return ""
    host, url = site.upstream.langfuse, f"https://{name}" + ("" if port == 443 else f":{port}")
    settings = fleet.roles.get(host, {}).get("langfuse")
    if not settings or not (tracing := settings.tracing(host)) or tracing.url == url:
        return ""
    return f"who signs in is sent to {tracing.url or f'http://{tracing.listen}'}: set hosts.{host}.roles.langfuse.url to {url}"


def _never_open(route: str) -> str:
    """Why a route is none that a site may open to all clients; empty where it may."""
    method, _, path = route.partition(" ")
    if path == "/paddock" or path.startswith("/paddock/"):
        return "is the admin endpoint's: set `admin: true` for the clients that may use it"
    if method == "GET" and path in LISTED:
        return "is answered for every client already, without command lines and paths: only administrators see these"
    return ""


def caddy_version(version: str) -> CaddyVersion:
    """`2.11.4-1` → `(2, 11, 4)`; for an unknown version the oldest"""
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else OLDEST


def refusal(version: str, accept: Mapping[str, Any]) -> str:
    """Why a version of Caddy is refused, and what to do; empty if it is accepted."""
    release = ".".join(map(str, caddy_version(version)))
    if caddy_version(version) < OLDEST:
        return f"Caddy {release} is older than {'.'.join(map(str, OLDEST))}, the oldest supported version"
    if release in KNOWN_BAD and release not in accept:
        return f'Caddy {release} {KNOWN_BAD[release]}; to use it anyway, give a reason under `accept: {{"{release}": "…"}}`'
    return ""
