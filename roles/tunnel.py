"""An encrypted hop between two hosts, of whatever speaks TCP: stunnel at both ends, each with the certificate of its host.

Each end accepts only the very certificates of the hosts that it is to talk to, as long as the fleet's CA vouches for them. A hop with an
`overlap` takes new connections while one end has its new certificate and the other does not know it yet: who is called accepts the one
before too, and who calls accepts what the CA has made for the host that it calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.expiry import ExpirySettings, Pem, expiry_watch
from roles.role import address_of, is_address, is_privileged, listed_as, port_of, render
from roles.server import Tunnelled, tunnel_socket

ACCOUNT = "paddock-tunnel"
UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED)

IDLE_S = 2_000_000
"""A connection over which nothing goes is closed after 23 days: more milliseconds than that are more than stunnel can count."""


@dataclass(frozen=True)
class Hop:
    """What one end passes on: from `accept` to `connect`, each `ADDRESS:PORT` or the path of a socket. `peers` are the hosts at the other
    end. With `calls` it is the end that others on its host call, and connects to the other end."""

    name: str
    accept: str
    connect: str
    peers: tuple[str, ...]
    calls: bool = False
    overlap: bool = False


@dataclass(frozen=True)
class Tunnel:
    """All that one unit passes on. Its files lie in `directory`. A `group` lets it open sockets, and opens those that it makes below
    `runtime`, a directory in /run: they are everybody's where it is `public`."""

    unit: str
    directory: str
    description: str
    group: str = ""
    runtime: str = ""
    public: bool = False

    @property
    def certificate(self) -> str:
        return f"{self.directory}/host.pem"

    def peers(self, hop: Hop) -> str:
        """Whom a hop accepts: their certificates, then the CAs."""
        return f"{self.directory}/{hop.name}.peers.pem"

    def resources(self, host: str, hops: Sequence[Hop], knowledge: Knowledge, ports: Iterable[Port]) -> Iterator[Resource]:
        """The tunnel on a host. A certificate that is issued anew is read without an interruption. Where it is called, another list of
        peers ends what is open."""
        own, key = knowledge.hosts.get(host, UNISSUED), f"{self.directory}/host.key"
        text = render(
            "shared/tunnel.conf.j2",
            certificate=self.certificate,
            key=key,
            idle_s=IDLE_S,
            hops=[
                {"name": each.name, "calls": each.calls, "accept": _bare(each.accept), "connect": _bare(each.connect), "peers": each.peers}
                | {"trusts": self.peers(each), "by_name": each.calls and each.overlap}
                for each in hops
            ],
        )
        configuration = File(f"{self.directory}/tunnel.conf", text)
        called = [address_of(each.connect) for each in hops if each.calls]
        unit = File(
            f"/etc/systemd/system/{self.unit}",
            render(
                "shared/paddock-tunnel.service.j2",
                description=self.description,
                account=ACCOUNT,
                configuration=configuration.path,
                group=self.group or ACCOUNT,
                runtime=self.runtime,
                public=self.public,
                low_port=any(not is_path(each.accept) and is_privileged(each.accept) for each in hops),
                # Who listens for other hosts is called from addresses that only the firewall knows.
                addresses=called if all(each.calls for each in hops) and all(map(is_address, called)) else (),
            ),
        )
        peers = tuple(File(self.peers(each), "".join(_trusted(each, knowledge))) for each in hops)
        shown = (File(self.certificate, own.chain), File(key, own.key, owner=ACCOUNT, group="root", mode=0o600, secret=True))
        yield User("stunnel4", "/var/run/stunnel4")  # as the package makes it; it would leave it behind
        yield Package("stunnel4")
        yield User(ACCOUNT, "/nonexistent")
        if self.group:
            yield User(self.group, "/nonexistent")
        yield Directory("/etc/paddock")
        yield Directory(self.directory, exclusive=True)
        yield from (*shown, *peers, configuration, unit)
        read = (configuration,)
        calls = all(each.calls for each in hops)
        yield Service(
            self.unit,
            restarts=(unit,) if calls else (unit, *read),
            reloads=(*shown, *peers, *(read if calls else ())),
            ports=tuple(ports),
        )


def inwards(tunnel: Tunnel, ways: Sequence[Tunnelled], knowledge: Knowledge, expiry: ExpirySettings) -> Iterator[Resource]:
    """The end at the host that is called, whose certificate is watched; nothing where it is called by none."""
    hops = tuple(Hop(each.name, each.at, each.socket, each.callers, overlap=True) for each in ways)
    ports = (
        Port(each.port, (listed_as(address_of(each.at)),), tunnel.unit, reachable_from=each.callers, shared=True, by_certificate=True)
        for each in ways
    )
    if ways:
        yield from tunnel.resources(ways[0].host, hops, knowledge, ports)
        pems = [Pem(tunnel.certificate), *(Pem(tunnel.peers(each)) for each in hops)]
        yield from expiry_watch(tunnel.unit.removeprefix("paddock-").removesuffix(".service"), ways[0].host, pems, expiry)


def outwards(tunnel: Tunnel, host: str, ways: Sequence[tuple[Tunnelled, str]], knowledge: Knowledge) -> Iterator[Resource]:
    """The end at a host that calls, with the `ADDRESS:PORT` at which it reaches each."""
    hops = tuple(Hop(way.name, tunnel_socket(way.host, way.port), at, (way.host,), calls=True, overlap=True) for way, at in ways)
    if hops:
        yield from tunnel.resources(host, hops, knowledge, ())


def _trusted(hop: Hop, knowledge: Knowledge) -> Iterator[str]:
    for peer in hop.peers if not (hop.calls and hop.overlap) else ():
        earlier = knowledge.earlier_hosts.get(peer, ()) if hop.overlap else ()
        yield from map(_ended, (knowledge.hosts.get(peer, UNISSUED).chain, *earlier))
    yield _ended(knowledge.ca)


def is_path(endpoint: str) -> bool:
    return endpoint.startswith("/")


def _ended(pem: str) -> str:
    return pem if pem.endswith("\n") else f"{pem}\n"


def _bare(endpoint: str) -> str:
    """As stunnel writes it, which takes what stands behind the last colon for the port: `[::1]:443` → `::1:443`"""
    if is_path(endpoint):
        return endpoint
    return f"{address_of(endpoint)}:{port_of(endpoint)}"
