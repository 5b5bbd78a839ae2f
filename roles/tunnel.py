"""An encrypted hop between two hosts, of HTTP or of whatever else speaks TCP: HAProxy at both ends, each with the certificate of its host.

Each end accepts only the hosts that it is to talk to, as long as the fleet's CA vouches for them. Who is called accepts their very
certificates; with an `overlap` also those before, for a caller that has not got its new one yet. Who calls accepts the certificate that it
knows and the one after it, which bears the mark of the one before.

systemd holds the ports and sockets, over all starts and reloads of HAProxy: nobody else can take them. A socket unit takes no other socket
without a restart, which is one of the service too: so each hop of a reverse proxy has units of its own, that come and go beside the others.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from inventory.errors import PaddockError
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.expiry import ExpirySettings, Pem, expiry_watch
from roles.role import address_of, is_address, listed_as, render
from roles.server import Tunnelled, tunnel_socket

ACCOUNT = "paddock-tunnel"
UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED, TO_BE_ISSUED)

OWN_SERVICE = "/etc/systemd/system/haproxy.service.d/40-paddock.conf"
"""A drop-in of the service that the package brings."""

IDLE_S = 2_000_000
"""A connection over which nothing goes is closed after 23 days: more milliseconds than that are more than HAProxy can count."""

CONNECTIONS, TOGETHER = 1024, 8192
"""At a time, of one hop, and of all that one unit has in equal shares: who comes beyond that waits. No hop takes another's."""

FIRST_SOCKET = 3
"""The number that systemd's first socket has (sd_listen_fds(3))."""


@dataclass(frozen=True)
class Hop:
    """What one end passes on: from `accept` to `connect`, each `ADDRESS:PORT` or the path of a socket. `peers` are the hosts at the other
    end. With `calls` it is the end that others on its host call, and connects to the other end. Of `http` the end that is called keeps its
    callers' connections, whatever becomes of those to the server behind it."""

    name: str
    accept: str
    connect: str
    peers: tuple[str, ...]
    calls: bool = False
    overlap: bool = False
    http: bool = False


@dataclass(frozen=True)
class Tunnel:
    """All that one unit passes on. Its files lie in `directory`, the configuration as `name`. A `group` lets it open sockets of others. Its
    own are open to `callers`, a group that is there, and are called `sockets`-HOST.PORT.sock."""

    unit: str
    directory: str
    description: str
    group: str = ""
    callers: str = ""
    name: str = "tunnel"
    sockets: str = "hop"

    @property
    def listener(self) -> str:
        """The socket unit that holds where it is called."""
        return f"{self.unit.removesuffix('.service')}.socket"

    @property
    def certificate(self) -> str:
        return f"{self.directory}/host.pem"

    def peers(self, hop: Hop) -> str:
        """Who vouches for whom a hop accepts: their certificates, then the CAs that sign for hosts."""
        return f"{self.directory}/{hop.name}.peers.pem"

    def pins(self, hop: Hop) -> str:
        """The certificates that a hop accepts, by their SHA-256."""
        return f"{self.directory}/{hop.name}.pins"

    def resources(self, host: str, hops: Sequence[Hop], knowledge: Knowledge, ports: Iterable[Port]) -> Iterator[Resource]:
        """The tunnel on a host. A certificate that is issued anew is read without an interruption. Where it is called, another list of
        peers ends what is open."""
        own, key = _known(host, knowledge), f"{self.certificate}.key"
        _require_callable(host, hops)
        connections = min(CONNECTIONS, TOGETHER // len(hops))
        text = render(
            "shared/tunnel.cfg.j2",
            certificate=self.certificate,
            connections=connections,
            idle_s=IDLE_S,
            hops=[
                {"socket": socket, "name": each.name, "calls": each.calls, "http": each.http, "connect": each.connect, "peers": each.peers}
                | {"trusts": self.peers(each), "pins": self.pins(each), "marks": [_known(peer, knowledge).mark for peer in each.peers]}
                for socket, each in enumerate(hops, FIRST_SOCKET)
            ],
        )
        configuration = File(f"{self.directory}/{self.name}.cfg", text)
        called = [address_of(each.connect) for each in hops if each.calls]
        unit = File(
            f"/etc/systemd/system/{self.unit}",
            render(
                "shared/paddock-tunnel.service.j2",
                description=self.description,
                listener=self.listener,
                account=ACCOUNT,
                configuration=configuration.path,
                group=self.group or ACCOUNT,
                together=connections * len(hops),
                # Who listens for other hosts is called from addresses that only the firewall knows.
                addresses=called if all(each.calls for each in hops) and all(map(is_address, called)) else (),
            ),
        )
        listener = File(
            f"/etc/systemd/system/{self.listener}",
            render("shared/paddock-tunnel.socket.j2", unit=self.unit, accepts=[each.accept for each in hops], callers=self.callers),
        )
        trusted = tuple(File(self.peers(each), "".join(_trusted(each, knowledge))) for each in hops)
        pinned = tuple(File(self.pins(each), "".join(_pins(each, knowledge))) for each in hops if not each.calls)
        shown = (File(self.certificate, own.chain), File(key, own.key, owner=ACCOUNT, group="root", mode=0o600, secret=True))
        yield from haproxy()
        yield User(ACCOUNT, "/nonexistent")
        if self.group:
            yield User(self.group, "/nonexistent")
        yield Directory("/etc/paddock")
        yield Directory(self.directory, exclusive=True)
        yield from (*shown, *trusted, *pinned, configuration, unit, listener)
        calls = all(each.calls for each in hops)
        yield Service(self.listener, restarts=(listener,), ports=tuple(ports))
        yield Service(
            self.unit,
            restarts=(unit,) if calls else (unit, configuration),
            reloads=(*shown, *trusted, *pinned, *((configuration,) if calls else ())),
            validate=(validation(configuration.path),),
            cuts=f"what {'callers here ask' if calls else 'other hosts ask here'} breaks off",
        )


def haproxy() -> Iterator[Resource]:
    """The package, whose own service stays down until somebody has given it something to do."""
    yield Package("haproxy")
    yield Directory(OWN_SERVICE.rpartition("/")[0])
    yield File(OWN_SERVICE, render("shared/haproxy.conf.j2", name=OWN_SERVICE.rpartition("/")[2]))


def inwards(tunnel: Tunnel, ways: Sequence[Tunnelled], knowledge: Knowledge, expiry: ExpirySettings) -> Iterator[Resource]:
    """The end at the host that is called, whose certificate is watched; nothing where it is called by none."""
    hops = tuple(Hop(each.name, each.at, each.socket, each.callers, overlap=True, http=True) for each in ways)
    ports = (
        Port(each.port, (listed_as(address_of(each.at)),), tunnel.listener, reachable_from=each.callers, shared=True, by_certificate=True)
        for each in ways
    )
    if ways:
        yield from tunnel.resources(ways[0].host, hops, knowledge, ports)
        pems = [Pem(tunnel.certificate), *(Pem(tunnel.peers(each)) for each in hops)]
        yield from expiry_watch(tunnel.unit.removeprefix("paddock-").removesuffix(".service"), ways[0].host, pems, expiry)


def outwards(tunnel: Tunnel, host: str, ways: Sequence[tuple[Tunnelled, str]], knowledge: Knowledge) -> Iterator[Resource]:
    """The end at a host that calls, with the `ADDRESS:PORT` at which it reaches each. A hop that leaves is a service that leaves: once the
    callers point elsewhere, and without a word to the others."""
    for way, at in ways:
        hop = Hop(way.name, tunnel_socket(way.host, way.port, tunnel.sockets), at, (way.host,), calls=True)
        unit, description = f"{tunnel.unit.removesuffix('.service')}-{hop.name}.service", f"{tunnel.description}: {hop.name}"
        yield from replace(tunnel, unit=unit, description=description, name=hop.name).resources(host, (hop,), knowledge, ())


def _require_callable(host: str, hops: Iterable[Hop]) -> None:
    for hop in hops:
        if hop.calls and "%" in hop.connect:
            words = f"calls {' and '.join(hop.peers)} at {hop.connect} through a tunnel, and HAProxy takes no link-local address"
            raise PaddockError(f"hosts.{host}: {words}: give {' and '.join(hop.peers)} another one, or say `encrypted: false` there")


def validation(configuration: str) -> str:
    """A shell command that succeeds where HAProxy takes a configuration, without its sockets, and says what it does not take."""
    checked = f"sed 's/^  bind fd@[0-9]*/  bind 127.0.0.1:1/' {configuration} | haproxy -c -f /dev/stdin 2>&1"
    return f"said=$({checked}) || {{ printf '%s\\n' \"$said\" | grep -m 1 -F '[ALERT]'; false; }}"


def _known(host: str, knowledge: Knowledge) -> Certificate:
    return knowledge.hosts.get(host, UNISSUED)


def _trusted(hop: Hop, knowledge: Knowledge) -> Iterator[str]:
    """The certificates are there for who watches when they end."""
    yield from map(_ended, () if hop.calls else _accepted(hop, knowledge))
    yield _ended(knowledge.host_ca)


def _pins(hop: Hop, knowledge: Knowledge) -> Iterator[str]:
    for chain in _accepted(hop, knowledge):
        leaf = chain.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
        yield _ended(hashlib.sha256(b64decode(leaf)).hexdigest() if leaf else chain)


def _accepted(hop: Hop, knowledge: Knowledge) -> Iterator[str]:
    for peer in hop.peers:
        yield _known(peer, knowledge).chain
        yield from knowledge.earlier_hosts.get(peer, ()) if hop.overlap else ()


def is_path(endpoint: str) -> bool:
    return endpoint.startswith("/")


def _ended(pem: str) -> str:
    return pem if pem.endswith("\n") else f"{pem}\n"
