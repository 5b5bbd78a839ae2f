"""Which addresses Caddy is given for the fleet's sites beside those that it serves already, so that none takes another's callers.

Caddy makes a server of each address as it is spelled. Where two of them overlap, `:443` and `tcp4/0.0.0.0:443` say, the kernel gives a
connection to the narrower one, and the other's sites are not found there. So sites share the address of who is there already, or lie
beside it, or are refused. The redirects to HTTPS that Caddy adds by itself are one server, whatever they listen on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from inventory.neighbours import Caddyfile, Listener
from roles.caddy.settings import CaddySettings, CaddyVersion
from roles.role import address_of, is_address
from roles.sandbox import HOMES, hidden

LOOPBACK = "127.0.0.1"

EVERYWHERE = ""
"""What `bind` is given for all addresses: nothing."""

SHARES_UDP = (2, 7, 0)
"""Since then, HTTP/3 on one address starts beside HTTP/3 on all addresses, and all addresses of a site are redirected from."""


@dataclass(frozen=True)
class Place:
    """An address as `bind` takes it, `tcp4/0.0.0.0`, `::` or nothing at all, and a port."""

    bind: str
    ports: range

    @property
    def host(self) -> str:
        return self.bind.rpartition("/")[2]

    @property
    def is_everywhere(self) -> bool:
        return not self.host or (is_address(self.host) and ip_address(self.host).is_unspecified)

    @property
    def families(self) -> frozenset[int]:
        if self.bind.startswith(("tcp4", "tcp6")):
            return frozenset({int(self.bind[3])})
        if self.is_everywhere or not is_address(self.host):
            return frozenset({4, 6})
        return frozenset({ip_address(self.host).version})

    @property
    def listed(self) -> str:
        """How ss lists a socket there: one that takes IPv6 and IPv4 alike is `*`."""
        if not self.is_everywhere:
            return LOOPBACK if self.host == "localhost" else self.host
        return "*" if len(self.families) > 1 else "0.0.0.0" if 4 in self.families else "::"

    def overlaps(self, other: Place) -> bool:
        if not set(self.ports) & set(other.ports) or not self.families & other.families:
            return False
        return self.is_everywhere or other.is_everywhere or self.host == other.host


@dataclass(frozen=True)
class Ours:
    """An address that Caddy is to listen on for the fleet: for its sites, or `implied` for the redirects to them."""

    place: Place
    implied: bool = False


def place_of(listener: Listener) -> Place:
    """`[::]:443` → `::` and 443"""
    address, _, ports = listener.address.rpartition(":")
    network, slash, host = address.rpartition("/")
    first, _, last = ports.partition("-")
    return Place(f"{'' if network == 'tcp' else network + slash}{host.strip('[]').lower()}", range(int(first), int(last or first) + 1))


def declared(settings: CaddySettings) -> tuple[str, ...]:
    """What `bind` is given where nobody else is there.

    Without the network's name, Go opens 0.0.0.0 for IPv6 as well, and [::], where it is the only one, for IPv4. The first is where ACME
    looks whether its challenges are answered already, and there it takes no network's name.
    """
    addresses = [ip_address(address_of(endpoint)) for endpoint in settings.listen]
    named = [each for each in addresses if each.is_unspecified and (each.version == 4 or len(addresses) > 1)]
    plain = [str(each) for each in addresses if each not in named]
    acme = [LOOPBACK] if any(site.acme for site in settings.sites.values()) and not plain else []
    return (*acme, *plain, *(f"tcp{each.version}/{each}" for each in named))


def chosen(settings: CaddySettings, theirs: Caddyfile | None, release: CaddyVersion) -> tuple[str, ...]:
    """What `bind` is given: what is declared, or the address on which somebody else's sites are everywhere already.

    Where neither will do, what is declared; `refusals` has the reason.
    """
    wanted = declared(settings)
    if not theirs or not _clashes(wanted, settings, theirs, release):
        return wanted
    families = frozenset[int]().union(*(place.families for each in wanted if (place := Place(each, range(0))).is_everywhere))
    if families:
        places = [place_of(each) for each in theirs.listeners]
        for bind in dict.fromkeys(each.bind for each in places if each.is_everywhere and each.families >= families):
            if not _clashes((bind,), settings, theirs, release):
                return (bind,)
    return wanted


def redirecting(binds: tuple[str, ...], theirs: Caddyfile | None, release: CaddyVersion) -> tuple[str, ...]:
    """Those of port 80; none where nobody can tell: of several addresses, Caddy 2.6 redirects from one, whichever that is."""
    theirs_too = {each.address for each in theirs.listeners if each.implied} if theirs else ()
    unknown = theirs and release < SHARES_UDP and max(len(binds), len(theirs_too)) > 1
    return () if unknown else listening(binds, 80, theirs)


def listening(binds: Iterable[str], port: int, theirs: Caddyfile | None) -> tuple[str, ...]:
    """The addresses, as ss lists them, on which Caddy listens on a port: for the fleet, and for somebody else."""
    others = [each for each in map(place_of, theirs.listeners if theirs else ()) if port in each.ports]
    return tuple(dict.fromkeys(each.listed for each in (*(Place(bind, range(port, port + 1)) for bind in binds), *others)))


def refusals(settings: CaddySettings, theirs: Caddyfile | None, release: CaddyVersion) -> Iterator[str]:
    """Why the sites cannot be there beside what the Caddyfile has already, a line each, with what to do."""
    if not theirs:
        if settings.shared:
            yield from _of_options(settings, Caddyfile())
        return
    if not settings.shared:
        yield "its Caddyfile has other sites or options: set roles.caddy.shared: true"
        return
    if not theirs.is_valid:
        yield "Caddy refuses its Caddyfile as it is: `caddy validate --config /etc/caddy/Caddyfile` on the host says why"
        return
    if not settings.sites:
        return
    yield from _of_names(settings, theirs)
    yield from _of_options(settings, theirs)
    binds = chosen(settings, theirs, release)
    if clashes := _clashes(binds, settings, theirs, release):
        yield _clash(*clashes[0], settings, theirs)
        return
    if release < SHARES_UDP and theirs.redirects:
        yield from _torn(binds, settings, theirs)
    for each in theirs.listeners:
        if not each.implied and place_of(each) in [ours.place for ours in _ours(binds, settings, theirs) if not ours.implied]:
            if not each.https:
                yield f"its Caddyfile has plain HTTP on {each.address}: set another port in roles.caddy.listen"
            elif each.any_name and settings.catches_all:
                yield f"its Caddyfile answers every name on {each.address} itself: remove roles.caddy.catch_all"
            elif each.strict and (nameless := [*(["every name"] * each.any_name), *filter(is_address, each.names)]):
                words = f"its Caddyfile answers {nameless[0]} on {each.address}, which Caddy stops once a site there requires certificates"
                yield f"{words}: set `servers {{ strict_sni_host insecure_off }}` in its options, or another port in roles.caddy.listen"


def remarks(settings: CaddySettings, theirs: Caddyfile | None, release: CaddyVersion) -> Iterator[str]:
    """Which addresses are more than the inventory says."""
    binds = chosen(settings, theirs, release)
    if settings.sites and binds != declared(settings):
        over = "over IPv4 and IPv6" if len(Place(binds[0], range(0)).families) > 1 else "at all addresses"
        yield f"the sites share the address of its Caddyfile's own, {binds[0]}:{settings.port}, and so answer {over}"


def costs(settings: CaddySettings, theirs: Caddyfile | None, writable: tuple[str, ...]) -> Iterator[str]:
    """What the catch-all and the sandbox take from the other sites, or would take. `writable` is what the sandbox lets Caddy write to."""
    known = theirs or Caddyfile()
    hides = [each for each in known.reads if hidden(each, HOMES)]
    protects = [each for each in known.writes if not hidden(each, (*writable, "/dev", "/run/caddy")) or hidden(each, HOMES)]
    lost = [f"hide {_and(hides)} from Caddy"] if hides else []
    lost += [f"keep Caddy from writing to {_and(protects)}"] if protects else []
    if settings.is_sandboxed and lost:
        yield f"the sandbox is to {' and to '.join(lost)}"
    elif not settings.is_sandboxed:
        yield f"Caddy runs without a sandbox: sandbox: true adds one{f', and would {_and(lost)}' if lost else ''}"
    if not settings.sites:
        return
    callers = f"callers of {_and(names)} show a client certificate of the fleet" if (names := tuple(_without_tls(settings, known))) else ""
    if settings.catches_all and callers:
        yield f"catch_all is to have {callers}"
    elif not settings.catches_all:
        words = "a TLS connection that names no site needs no client certificate: catch_all: true ends it"
        yield f"{words}{f', and would have {callers}' if callers else ''}"


def _without_tls(settings: CaddySettings, theirs: Caddyfile) -> Iterator[str]:
    """The names on the port of the fleet's sites that Caddy handles, in a handshake, as it does those that it does not know."""
    for each in theirs.listeners:
        if each.https and not each.implied and settings.port in place_of(each).ports:
            yield from (name for name in each.names if name not in each.with_tls)


def _and(words: Iterable[str]) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def _kept_from_80(theirs: Caddyfile) -> str:
    """Why Caddy redirects nothing from port 80; empty where it does."""
    if not theirs.redirects:
        return "turns redirects off (auto_https)"
    if theirs.http_port != 80:
        return f"has http_port {theirs.http_port}"
    if any(each.any_name and not each.implied and 80 in place_of(each).ports for each in theirs.listeners):
        return "answers every name on port 80"
    return ""


def _of_names(settings: CaddySettings, theirs: Caddyfile) -> Iterator[str]:
    ports = (settings.port, *((80,) if settings.redirect else ()))
    taken = {name for each in theirs.listeners if not each.implied and set(place_of(each).ports) & set(ports) for name in each.names}
    for name in settings.sites:
        if name in taken:
            yield f"its Caddyfile has a site {name} already: remove it there, or choose another name in roles.caddy.sites"


def _of_options(settings: CaddySettings, theirs: Caddyfile) -> Iterator[str]:
    why = _kept_from_80(theirs)
    if settings.redirect and why:
        yield f"its Caddyfile {why}: set roles.caddy.redirect: false"
    elif not settings.redirect and not why:
        yield "its Caddyfile redirects plain HTTP: add `auto_https disable_redirects` to its options, or remove roles.caddy.redirect"
    if not theirs.certificates and (name := next((name for name, site in settings.sites.items() if site.acme), None)):
        yield f"its Caddyfile turns certificates off (auto_https), and {name} needs one: remove that there, or acme here"


def _torn(binds: tuple[str, ...], settings: CaddySettings, theirs: Caddyfile) -> Iterator[str]:
    """Of a site at several addresses Caddy 2.6 redirects from one, and from another once it shares some of them."""
    ours = [each.place for each in _ours(binds, settings, theirs) if not each.implied]
    sites: dict[tuple[tuple[str, ...], range], list[Place]] = {}
    for each in theirs.listeners:
        if each.https and not each.implied:
            sites.setdefault((each.names, place_of(each).ports), []).append(place_of(each))
    for (names, _), places in sites.items():
        if 0 < len([each for each in places if each in ours]) < len(places):
            site = ", ".join(names) or "a site"
            yield f"its Caddyfile has {site} at several addresses: set roles.caddy.listen to {_listen(places, settings)}, which they share"


def _ours(binds: Iterable[str], settings: CaddySettings, theirs: Caddyfile) -> list[Ours]:
    found = [Ours(Place(bind, range(settings.port, settings.port + 1))) for bind in binds]
    if theirs.redirects:
        found += [Ours(Place(each.place.bind, range(theirs.http_port, theirs.http_port + 1)), implied=True) for each in found]
    return found


def _clashes(binds: tuple[str, ...], settings: CaddySettings, theirs: Caddyfile, release: CaddyVersion) -> list[tuple[Ours, Listener]]:
    """The addresses that overlap, and of which one would take the other's callers."""
    return [
        (ours, each)
        for ours in _ours(binds, settings, theirs)
        for each in theirs.listeners
        if ours.place.overlaps(place_of(each)) and not _get_along(ours, each, release)
    ]


def _get_along(ours: Ours, theirs: Listener, release: CaddyVersion) -> bool:
    there = place_of(theirs)
    if ours.place == there or (ours.implied and theirs.implied):
        return True
    # What listens on loopback is not where callers from outside are missed.
    loopback = there.listed == LOOPBACK or (is_address(there.host) and ip_address(there.host).is_loopback)
    return loopback and ours.place.is_everywhere and (release >= SHARES_UDP or ours.implied or not theirs.https)


def _clash(ours: Ours, theirs: Listener, settings: CaddySettings, known: Caddyfile) -> str:
    there, at = place_of(theirs), f"{ours.place.listed}:{ours.place.ports[0]}"
    if there.is_everywhere:
        words = f"its Caddyfile listens on {theirs.address}, and {at} would take callers of it"
        better = [there]
    else:
        words = f"its Caddyfile listens on {theirs.address}, and would take callers of {at}"
        places = dict.fromkeys(place_of(each) for each in known.listeners if not each.implied)
        near = [each for each in places if is_address(each.host) and set(each.ports) & set(ours.place.ports)]
        better = [each for each in near if not each.is_everywhere and not ip_address(each.host).is_loopback]
    where = f"{_listen(better, settings)}, which they share" if better else "single addresses of the host"
    either = ", or turn redirects off there (auto_https disable_redirects) and in roles.caddy.redirect" if ours.implied else ""
    return f"{words}: set roles.caddy.listen to {where}{either}"


def _listen(places: Iterable[Place], settings: CaddySettings) -> str:
    """The addresses as the inventory takes them: `["0.0.0.0:443"]`"""
    hosts = dict.fromkeys(("::" if 6 in each.families else "0.0.0.0") if each.is_everywhere else each.host for each in places)
    return "[" + ", ".join(f'"[{each}]:{settings.port}"' if ":" in each else f'"{each}:{settings.port}"' for each in hosts) + "]"
