"""Caddy with mTLS: one site a name, each with a list of the very certificates that it lets in."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from ipaddress import ip_address

from inventory.context import TO_BE_ISSUED, Certificate, Context
from inventory.schema import Fleet, Host
from inventory.servers import named_upstream
from roles.caddy.settings import CaddySettings, Site, release_of
from roles.resources import Directory, File, Line, Package, Port, Resource, Service, User
from roles.role import address_of, port_of, render

CADDYFILE = "/etc/caddy/Caddyfile"
DIRECTORY = "/etc/caddy/paddock"
UNIT = "caddy.service"

VALIDATE = f"runuser -u caddy -- env HOME=/var/lib/caddy caddy validate --adapter caddyfile --config {CADDYFILE}"
"""As the user who is to read it all: root could read too much, and would leave files of its own in that user's home."""

RELOADS_SAFELY = (2, 8, 0)
"""A reload with a request in flight ends Caddy 2.6.2 (`panic: missing cancel error`): the distribution's Caddy is restarted instead."""

TRUST_POOL = (2, 8, 0)

UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED)

LEAF = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


def plan(host: Host, settings: CaddySettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    package = Package("caddy", settings.package.version, settings.package.sha256) if settings.package else Package("caddy")
    release = release_of(settings.package.version) if settings.package else (0, 0, 0)
    restart = File(f"/etc/systemd/system/{UNIT}.d/40-restart.conf", render("caddy/40-restart.conf.j2"))
    configuration = [*_certificates(settings, fleet, context), _sites(host, settings, fleet, context, release)]
    imports = Line(CADDYFILE, f"import {DIRECTORY}/*.caddy")

    yield package
    yield User("caddy", "/var/lib/caddy", groups=("www-data",))  # as the package makes it; it would leave it behind
    yield Directory(f"/etc/systemd/system/{UNIT}.d")
    yield Directory(DIRECTORY, group="caddy", mode=0o750, exclusive=True)
    yield Directory(f"{DIRECTORY}/clients", group="caddy", mode=0o750, exclusive=True)
    yield from configuration
    yield imports
    yield restart
    safe = release >= RELOADS_SAFELY
    yield Service(
        UNIT,
        restarts=(package, restart) if safe else (package, restart, *configuration, imports),
        reloads=(*configuration, imports) if safe else (),
        ports=tuple(_ports(settings)),
        validate=(VALIDATE,),
    )


def needs(host: Host, settings: CaddySettings, fleet: Fleet) -> Iterator[str]:
    """The other hosts whose llama-server must answer before this one passes requests on."""
    yield from dict.fromkeys(behind for site in settings.sites.values() if (behind := named_upstream(site.upstream)[0]) != host.name)


def admitted(site: Site, fleet: Fleet, context: Context) -> tuple[str, ...]:
    """The clients that a site lets in: those that it names, or all of the fleet's, where they hold a certificate that is not revoked."""
    return tuple(name for name in (fleet.clients if site.clients is None else site.clients) if name in context.clients)


def fingerprint(chain: str) -> str:
    """The sha256 of the leaf, as Caddy's `tls_client_fingerprint` has it; of one that is not issued yet, that it is not."""
    leaf = LEAF.search(chain)
    return hashlib.sha256(base64.b64decode(leaf[1])).hexdigest() if leaf else TO_BE_ISSUED


def _certificates(settings: CaddySettings, fleet: Fleet, context: Context) -> Iterator[File]:
    if not settings.sites:
        return
    yield File(f"{DIRECTORY}/ca.pem", context.ca)
    for name in settings.sites:
        certificate = context.servers.get(name, UNISSUED)
        yield File(f"{DIRECTORY}/{name}.pem", certificate.chain)
        yield File(f"{DIRECTORY}/{name}.key", certificate.key, group="caddy", mode=0o640, secret=True)
    for client in dict.fromkeys(client for site in settings.sites.values() for client in admitted(site, fleet, context)):
        yield File(f"{DIRECTORY}/clients/{client}.pem", context.clients[client].chain)


def _sites(host: Host, settings: CaddySettings, fleet: Fleet, context: Context, release: tuple[int, int, int]) -> File:
    address = ip_address(address_of(settings.listen))
    sites = {
        name: {
            "upstreams": fleet.upstreams(site.upstream, host.name),
            "clients": {client: fingerprint(context.clients[client].chain) for client in admitted(site, fleet, context)},
        }
        for name, site in settings.sites.items()
    }
    text = render(
        "caddy/sites.caddy.j2",
        redirect=settings.redirect,
        sites=sites,
        directory=DIRECTORY,
        # Without the network's name, Go opens 0.0.0.0 for IPv6 as well.
        bind=f"tcp4/{address}" if address.version == 4 else str(address),
        port=port_of(settings.listen),
        trust="trust_pool file" if release >= TRUST_POOL else "trusted_ca_cert_file",
    )
    return File(f"{DIRECTORY}/sites.caddy", text)


def _ports(settings: CaddySettings) -> Iterator[Port]:
    for endpoint in settings.endpoints():
        address = str(ip_address(address_of(endpoint)))
        # A socket that takes IPv6 and IPv4 alike is listed as `*`.
        addresses = ("*" if address == "::" else address,)
        yield Port(port_of(endpoint), addresses, UNIT)
        if endpoint == settings.listen:
            yield Port(port_of(endpoint), addresses, UNIT, "udp")  # HTTP/3
