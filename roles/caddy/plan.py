"""Caddy with mTLS: one site a name, each with a list of the very certificates that it lets in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from shlex import quote
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from inventory.neighbours import Caddyfile
from resources import Directory, File, Line, Package, Port, Resource, Service, User, as_unit, lines_of
from roles import tunnel
from roles.caddy import neighbours, routes
from roles.caddy.model_list import SOCKET as MODEL_LIST
from roles.caddy.model_list import model_list
from roles.caddy.pem import certificates_in, fingerprint
from roles.caddy.settings import ADMINISTRATION, CaddySettings, CaddyVersion, Site, caddy_version, refusal
from roles.expiry import Pem, expiry_watch
from roles.role import address_of, port_of, render
from roles.server import CALLERS, Tunnelled
from roles.upstream import OfFront, models_behind, shown
from roles.wording import quoted

CADDYFILE = "/etc/caddy/Caddyfile"
DIRECTORY = "/etc/caddy/paddock"
UNIT = "caddy.service"
DROPINS = f"/etc/systemd/system/{UNIT}.d"

VALIDATE = as_unit(UNIT, "caddy", f"caddy validate --adapter caddyfile --config {CADDYFILE}", home="/var/lib/caddy")
"""As the account that is to read it all: root could read too much, and would leave files of its own in that account's home."""

SITES = f"{DIRECTORY}/sites.caddy"

GATE = f"""[ -e {CADDYFILE} ] || exit 0
mkdir -p "$2{DIRECTORY}" "$2/own"
cp -a {DIRECTORY}/. "$2{DIRECTORY}/." "$2/own/"
sed -i "s|{DIRECTORY}/|$2/own/|g" "$2/own/"*.caddy
(umask 022 && sed "s|^import {DIRECTORY}/|import $2/own/|" {CADDYFILE} >"$2/Caddyfile")
chown root:caddy "$2/own"
chmod 750 "$2/own"
cd / && runuser -u caddy -- env HOME=/var/lib/caddy "$1/usr/bin/caddy" validate --adapter caddyfile --config "$2/Caddyfile"
"""
"""Another Caddy reads what is to land, before it is installed."""

RELOADS_SAFELY = (2, 8, 0)
"""A reload with a request in flight ends Caddy 2.6.2 (`panic: missing cancel error`): the distribution's Caddy is restarted instead."""

CUTS = "answers that take longer than 2 seconds break off, and nobody is let in for half a second; Caddy 2.8 and later would reload"

TRUST_POOL = (2, 8, 0)

ADMINISTRATION_BY_ENVIRONMENT = (2, 7, 0)
"""Where Caddy takes new configurations can be said outside of a Caddyfile (CADDY_ADMIN) since then."""

WRITES = ("/var/lib/caddy", "/var/log/caddy")
"""Where the sandbox lets Caddy write: its certificates of public authorities, and logs of others."""

SOCKET = "unix//run/caddy/admin.sock"

NOTED = "/run/paddock/caddy.service.admitted"
"""On a host, who has been admitted since the start, or the last reload: in a Caddyfile that others use too, since the start."""

REVOKED = f"{DIRECTORY}/revoked"
"""Who has been thrown out. Caddy does not read it."""

BEGIN = "-----BEGIN CERTIFICATE-----"

DIAL_S = 30
"""How long a connection to who answers may take."""

HEALTH = {"interval_s": 2, "timeout_s": 5, "cool_down_s": 3, "pause_ms": 50}
"""Of servers that stand in for each other: how often each is asked for its health, and how long it may take to answer; how long it is not
asked after it did not; and how often a client's request looks for one that is ready."""

CLOSED = {
    "error": {
        "message": "Only administrators may ask for this. In the inventory, admin makes a client one, and routes opens paths to all.",
        "type": "permission_error",
        "param": None,
        "code": "forbidden",
    }
}
"""What other clients are told, as OpenAI's API has it."""

WAY_OUT = tunnel.Tunnel(
    "paddock-caddy-tunnel.service",
    "/etc/paddock/caddy-tunnel",
    "Encrypted way from Caddy to another host",
    callers=CALLERS,
)

UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED)


def plan(host: Host, settings: CaddySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    package = Package("caddy", gate=GATE)
    if settings.package:
        package = replace(package, version=settings.package.version, deb=settings.package.sha256)
    release = _release(host, settings, knowledge)
    theirs = _theirs(host, settings, knowledge)
    # `caddy reload` asks Caddy's API.
    reloads = release >= RELOADS_SAFELY and not (theirs and theirs.administration == "off")
    joins = settings.shared and reloads and not settings.is_sandboxed
    by_socket = not joins  # a process from before Paddock is in none of its groups
    tunnels = tuple(_tunnels(host, settings, fleet))
    grouped = by_socket and (_calls_here(host, settings, fleet) or bool(tunnels))
    dropin = render(
        "caddy/40-restart.conf.j2",
        group=CALLERS if grouped else "",
        reloads=reloads,
        directory=DIRECTORY,
        caddyfile=CADDYFILE,
        socket=SOCKET,
        socket_by_environment=settings.shared and release >= ADMINISTRATION_BY_ENVIRONMENT,
    )
    dropins = [File(f"{DROPINS}/40-restart.conf", dropin)]
    if settings.is_sandboxed:
        dropins.append(File(f"{DROPINS}/45-sandbox.conf", render("caddy/45-sandbox.conf.j2", writes=WRITES, shared=settings.shared)))
    directories = (
        Directory(DIRECTORY, group="caddy", mode=0o750, exclusive=True),  # every *.caddy in it is read
        Directory(f"{DIRECTORY}/clients", group="caddy", mode=0o750, exclusive=True),
    )
    binds = neighbours.chosen(settings, theirs, release)
    configuration = [
        *_files(host, settings, fleet, knowledge, release),
        *_sites(host, settings, fleet, knowledge, release, binds, by_socket),
    ]
    imports = Line(CADDYFILE, f"import {DIRECTORY}/*.caddy")

    yield package
    # As the package makes it, which would leave it behind. It may be in groups of somebody else's sites.
    yield User("caddy", "/var/lib/caddy", groups=("www-data",), only=not settings.shared)
    yield Directory(DROPINS)
    yield from directories
    yield from configuration
    yield imports
    if knowledge.revocations:
        yield File(REVOKED, knowledge.revocations)
    if reloads:
        cut = render("caddy/cut.j2", settings, directory=DIRECTORY, port=settings.port, noted=NOTED)
        yield File(f"{DIRECTORY}/cut", cut, mode=0o755, goes_back=True)
    yield from dropins
    if tunnels and by_socket:
        yield User(CALLERS, "/nonexistent")
    callers = CALLERS if by_socket else "caddy"
    yield from tunnel.outwards(replace(WAY_OUT, callers=callers), host.name, tunnels, knowledge)
    yield from model_list(_kept_apart(host, settings, fleet, by_socket), knowledge, callers)
    read = (directories[0], *configuration, imports)
    yield Service(
        UNIT,
        restarts=(package, *dropins) if reloads else (package, *dropins, *read),
        reloads=read if reloads else (),
        ports=tuple(_ports(settings, release, theirs, binds)),
        validate=(VALIDATE,),
        joins=joins,
        cuts="" if reloads else CUTS,
        left_open=_left_open(configuration) if settings.shared and reloads else "",
    )
    if settings.sites:
        shown = [Pem(WAY_OUT.certificate)] if tunnels else []
        yield from expiry_watch("caddy", host.name, [*_watched(settings, fleet, knowledge), *shown], settings.expiry)


def _calls_here(host: Host, settings: CaddySettings, fleet: Fleet) -> bool:
    """Whether a server of its own host, or that one's admin endpoint, is behind a site, with a socket that the callers' group opens."""
    here = [server for site in settings.sites.values() for server in fleet.behind(site.upstream) if server.host == host.name]
    return any(server.socket for server in here) or host.name in map(fleet.administered, settings.sites.values())


def _tunnels(host: Host, settings: CaddySettings, fleet: Fleet) -> Iterator[tuple[Tunnelled, str]]:
    """What it reaches on other hosts by a tunnel, each with the `ADDRESS:PORT` there."""
    behind = dict.fromkeys(other for site in settings.sites.values() for other in fleet.hosts_behind(site))
    for way in (way for other in behind if other != host.name for way in fleet.tunnels_to(other) if host.name in way.callers):
        yield way, fleet.reach(way.listen, f"hosts.{way.host}.listen", way.host, host.name)


def _left_open(configuration: Iterable[File]) -> str:
    """Whether somebody has been admitted since the start who is admitted no more."""
    (admitted,) = (each for each in configuration if each.path == f"{DIRECTORY}/admitted")
    lines = " ".join(quote(line) for line in lines_of(admitted.data.decode()))
    return f"printf '%s\\n' {lines} | grep -qvxF -f - {NOTED}" if lines else f"[ -s {NOTED} ]"


def refusals(host: Host, settings: CaddySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """What its Caddyfile has already and leaves no place for the sites."""
    yield from neighbours.refusals(settings, _found(host, knowledge), _release(host, settings, knowledge))


def remarks(host: Host, settings: CaddySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    theirs = _theirs(host, settings, knowledge)
    yield from (f"hosts.{host.name}: {line}" for line in neighbours.remarks(settings, theirs, _release(host, settings, knowledge)))
    if settings.shared:
        yield from (f"hosts.{host.name}.roles.caddy: {line}" for line in neighbours.costs(settings, theirs, WRITES))
    for name, site in settings.sites.items():
        yield from (f"hosts.{host.name}.roles.caddy.sites.{name}: {line}" for line in _not_everywhere(site, fleet))


def _not_everywhere(site: Site, fleet: Fleet) -> Iterator[str]:
    """The models that only some of a site's servers have."""
    servers = fleet.behind(site.upstream)
    for model in models_behind(site.upstream, servers):
        if lacking := [each for each in servers if model not in each.models]:
            # A router refuses what it does not have; an instance takes no notice of the name.
            fail = "fail, or are answered by another model," if any(each.group for each in lacking) else "fail"
            names = " and ".join(dict.fromkeys(map(shown, lacking)))
            yield f"requests for {quoted(model)} {fail} where {names} gets them, which lacks it: a site may lead to any of its servers"


def needs(host: Host, settings: CaddySettings, fleet: Fleet) -> Iterator[str]:
    """The other hosts whose llama-server must answer before this one passes requests on."""
    yield from dict.fromkeys(behind[0] for behind in map(fleet.hosts_behind, settings.sites.values()) if len(behind) == 1)


def needs_one_of(host: Host, settings: CaddySettings, fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """Of each site over several hosts these: while one of them answers, what others ask is passed on to it."""
    yield from (behind for behind in map(fleet.hosts_behind, settings.sites.values()) if len(behind) > 1)


def admitted(site: Site, fleet: Fleet, knowledge: Knowledge) -> tuple[str, ...]:
    """The clients that a site lets in: those that it names, or all of the fleet's, where they hold a certificate that is not revoked."""
    return tuple(name for name in fleet.admits(site) if name in knowledge.clients)


def _watched(settings: CaddySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Pem]:
    """What `up` renews: neither what Caddy has from a public authority, nor what a client held before."""
    yield Pem(f"{DIRECTORY}/ca.pem", ca=True)
    yield from (Pem(f"{DIRECTORY}/{name}.pem") for name, site in settings.sites.items() if not site.acme)
    clients = dict.fromkeys(client for site in settings.sites.values() for client in admitted(site, fleet, knowledge))
    yield from (Pem(f"{DIRECTORY}/clients/{client}.pem") for client in clients)


def _found(host: Host, knowledge: Knowledge) -> Caddyfile | None:
    machine = knowledge.hardware.get(host.name)
    return machine.caddyfile if machine else None


def _theirs(host: Host, settings: CaddySettings, knowledge: Knowledge) -> Caddyfile | None:
    """What somebody else has in the host's Caddyfile, where the inventory says that somebody may."""
    return _found(host, knowledge) if settings.shared else None


def _release(host: Host, settings: CaddySettings, knowledge: Knowledge) -> CaddyVersion:
    """Of the Caddy that the host is to have, has, or would be given by apt. Raises PaddockError where it is one that is not taken."""
    machine = knowledge.hardware.get(host.name)
    version = settings.package.version if settings.package else machine.caddy if machine else ""
    if why := refusal(version, settings.accept):
        better = "name a package file under roles.caddy.package, or offer another version in apt"
        raise PaddockError(f"hosts.{host.name}.roles.caddy: its Caddy is {version}: {why}; {better}")
    return caddy_version(version)


def _leaves(client: str, knowledge: Knowledge, host: Host) -> Mapping[str, str]:
    """Path → PEM of each certificate with which a client is let in: the one it has, and those it had before that are still good.

    Raises PaddockError where one cannot be read: Caddy is to be given no list of which it might overlook an entry.
    """
    leaves = {f"{DIRECTORY}/clients/{client}.pem": knowledge.clients[client].chain}
    for chain in knowledge.earlier.get(client, ()):
        leaves[f"{DIRECTORY}/clients/{client}.{_print(chain, f'an earlier certificate of client {client}', host)[:16]}.pem"] = chain
    for chain in leaves.values():
        _print(chain, f"the certificate of client {client}", host)
    return leaves


def _print(chain: str, what: str, host: Host) -> str:
    """The fingerprint of a certificate; of one that is not issued yet, that it is not."""
    if chain == TO_BE_ISSUED:
        return TO_BE_ISSUED
    try:
        return fingerprint(chain)
    except ValueError as error:
        raise _unreadable(what, host, error) from None


def _authorities(text: str, host: Host) -> str:
    """The text, where it is all certificates. Without a CA that it can read, a Caddy might ask nobody for a certificate."""
    if text == TO_BE_ISSUED:
        return text
    try:
        certificates_in(text)
    except ValueError as error:
        raise _unreadable("the fleet's CA", host, error) from None
    return text


def _acme_root(site: str, path: str, host: Host, knowledge: Knowledge) -> str:
    """The root of a site's ACME authority, from the file beside the inventory."""
    where = f"hosts.{host.name}.roles.caddy.sites.{site}.acme.root: {path}"
    text = knowledge.roots.get(path, "")
    if not text:
        raise PaddockError(f"{where} is not there, or is empty: get the root certificate of that ACME authority, in PEM")
    try:
        certificates_in(text)
    except ValueError as error:
        raise PaddockError(f"{where} {error}: expected the root certificate of that ACME authority") from None
    return text


def _unreadable(what: str, host: Host, error: ValueError) -> PaddockError:
    words = f"{what} {error}: put it back in the fleet's state, from a backup or from git"
    return PaddockError(f"hosts.{host.name}.roles.caddy: {words}")


def _files(host: Host, settings: CaddySettings, fleet: Fleet, knowledge: Knowledge, release: CaddyVersion) -> Iterator[File]:
    """What a configuration refers to."""
    if not settings.sites:
        return
    yield from (File(path, _authorities(pem, host)) for path, pem in _trusted(knowledge, release).items())
    for name, site in settings.sites.items():
        if site.acme and site.acme.root:
            yield File(f"{DIRECTORY}/{name}.acme.pem", _acme_root(name, site.acme.root, host, knowledge))
        elif not site.acme:
            certificate = knowledge.servers.get(name, UNISSUED)
            yield File(f"{DIRECTORY}/{name}.pem", certificate.chain)
            yield File(f"{DIRECTORY}/{name}.key", certificate.key, group="caddy", mode=0o640, secret=True)
    for client in dict.fromkeys(client for site in settings.sites.values() for client in admitted(site, fleet, knowledge)):
        yield from (File(path, chain) for path, chain in _leaves(client, knowledge, host).items())
    with_administrators = (site for site in settings.sites.values() if any(fleet.clients[each].admin for each in fleet.admits(site)))
    for behind in filter(None, dict.fromkeys(map(fleet.administered, with_administrators))):
        if admin := fleet.administration(behind, host.name):
            text = f'header_up Authorization "Bearer {knowledge.key(admin.key_name)}"\n'
            yield File(_key_file(behind), text, group="caddy", mode=0o640, secret=True)


def _trusted(knowledge: Knowledge, release: CaddyVersion) -> Mapping[str, str]:
    """Path → PEM of the fleet's CAs. `trusted_ca_cert_file` takes the first certificate of a file and no other, so each of them has one."""
    others = [f"{BEGIN}{each}" for each in knowledge.ca.split(BEGIN)[2:]] if release < TRUST_POOL else []
    return {f"{DIRECTORY}/ca.pem": knowledge.ca, **{f"{DIRECTORY}/ca.{number}.pem": pem for number, pem in enumerate(others, 2)}}


def _key_file(host: str) -> str:
    return f"{DIRECTORY}/{host}.admin"


def _sites(
    host: Host,
    settings: CaddySettings,
    fleet: Fleet,
    knowledge: Knowledge,
    release: CaddyVersion,
    binds: tuple[str, ...],
    by_socket: bool,
) -> Iterator[File]:
    sites = {name: _site(host, settings, name, fleet, knowledge, by_socket) for name in settings.sites}
    text = render(
        "caddy/sites.caddy.j2",
        redirect=settings.redirect,
        shared=settings.shared,
        sites=sites,
        directory=DIRECTORY,
        bind=tuple(filter(None, binds)),
        port=settings.port,
        socket=SOCKET,
        trust="trust_pool file" if release >= TRUST_POOL else "trusted_ca_cert_file",
        authorities=tuple(_trusted(knowledge, release)),
        # Whoever is on a list. Where nobody is, the CA alone, and nothing is answered either.
        everybody=tuple(dict.fromkeys(path for site in sites.values() for path in site["leaves"])) if settings.catches_all else None,
        listed=routes.listed(),
        model_list=f"unix/{MODEL_LIST}",
        page_headers=routes.PAGE_HEADERS,
        closed=CLOSED,
        health=HEALTH,
        dial_s=DIAL_S,
    )
    yield File(SITES, text, goes_back=True)
    admitted = sorted(f"{name} {each}\n" for name, site in sites.items() for each in site["clients"])
    yield File(f"{DIRECTORY}/admitted", "".join(admitted))


def _site(host: Host, settings: CaddySettings, name: str, fleet: Fleet, knowledge: Knowledge, by_socket: bool) -> Mapping[str, Any]:
    """What the template knows of a site. `clients` are their names, by the fingerprint of each certificate. Where Caddy has its callers'
    group, it asks servers of its own host `by_socket`."""
    site = settings.sites[name]
    leaves = {client: _leaves(client, knowledge, host) for client in admitted(site, fleet, knowledge)}
    clients = {_print(chain, client, host): client for client, chains in leaves.items() for chain in chains.values()}
    behind = fleet.administered(site)
    admin = fleet.administration(behind, host.name) if behind else None
    return {
        **dict(site),
        "upstreams": fleet.upstreams(site.upstream, host.name, by_socket),
        "leaves": tuple(path for chains in leaves.values() for path in chains),
        "clients": clients,
        "origins": (own := f"https://{name}" + ("" if settings.port == 443 else f":{settings.port}"), *site.origins),
        "pages": (pages := tuple(each for each in dict.fromkeys(site.origins) if each != own)),
        "page_methods": tuple(routes.page_methods(site.routes)) if pages else (),
        "admin": {
            "endpoint": f"unix/{admin.socket}" if admin.socket and (by_socket or behind != host.name) else admin.endpoint,
            "key_file": _key_file(behind),
        }
        if admin
        else None,
        "administrators": tuple(each for each, client in clients.items() if fleet.clients[client].admin),
        "hosts": len(fleet.hosts_behind(site)),
        "wait_s": max((each.wait_s for each in fleet.behind(site.upstream)), default=0),
        "front": isinstance(site.upstream, OfFront),
        # A gateway has a list of its own of what may be asked for, and LiteLLM too.
        "apart": not isinstance(site.upstream, OfFront) and any(not fleet.clients[client].admin for client in leaves),
        "open": tuple(routes.patterns(site.routes)),
    }


def _kept_apart(host: Host, settings: CaddySettings, fleet: Fleet, by_socket: bool) -> list[tuple[str, ...]]:
    """Of each site with clients who are no administrators `ADDRESS:PORT`, or `unix//PATH`, of the llama-servers that list their models."""
    own = (site for site in settings.sites.values() if not isinstance(site.upstream, OfFront))
    sites = (site for site in own if not all(fleet.clients[client].admin for client in fleet.admits(site)))
    return [fleet.upstreams(site.upstream, host.name, by_socket) for site in sites]


def _ports(settings: CaddySettings, release: CaddyVersion, theirs: Caddyfile | None, binds: tuple[str, ...]) -> Iterator[Port]:
    if settings.sites:
        yield Port(settings.port, neighbours.listening(binds, settings.port, theirs), UNIT)
        if settings.redirect and (redirecting := neighbours.redirecting(binds, theirs, release)):
            yield Port(80, redirecting, UNIT)
    if settings.shared and release < ADMINISTRATION_BY_ENVIRONMENT and not (theirs and theirs.administration):
        yield Port(port_of(ADMINISTRATION), (address_of(ADMINISTRATION),), UNIT)
