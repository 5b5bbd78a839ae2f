"""An encrypted hop of TCP between two hosts: stunnel at both ends. Each shows the certificate of its host, and each accepts only the very
certificates of the hosts that it is to talk to, as long as the fleet's CA vouches for them.

ggml-rpc-server and others have no TLS of their own; Caddy needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.role import address_of, is_address, port_of, render

ACCOUNT = "paddock-tunnel"
UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED)

IDLE_S = 2_000_000
"""A connection over which nothing goes is closed after 23 days: more milliseconds than that are more than stunnel can count."""


@dataclass(frozen=True)
class Hop:
    """What one end passes on: from `accept` to `connect`, each `ADDRESS:PORT` or the path of a socket. `peers` are the hosts at the
    other end. With `calls` it is the end that others on its host call, and connects to the other end."""

    name: str
    accept: str
    connect: str
    peers: tuple[str, ...]
    calls: bool = False


@dataclass(frozen=True)
class Tunnel:
    """All that one unit passes on. Its files lie in `directory`."""

    unit: str
    directory: str
    description: str

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
                | {"trusts": self.peers(each)}
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
                # Who listens for other hosts is called from addresses that only the firewall knows.
                addresses=called if all(each.calls for each in hops) and all(map(is_address, called)) else (),
            ),
        )
        peers = tuple(File(self.peers(each), "".join(_trusted(each, knowledge))) for each in hops)
        shown = (File(self.certificate, own.chain), File(key, own.key, owner=ACCOUNT, group="root", mode=0o600, secret=True))
        yield Package("stunnel4")
        yield User(ACCOUNT, "/nonexistent")
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


def _trusted(hop: Hop, knowledge: Knowledge) -> Iterator[str]:
    yield from (_ended(knowledge.hosts.get(peer, UNISSUED).chain) for peer in hop.peers)
    yield _ended(knowledge.ca)


def _ended(pem: str) -> str:
    return pem if pem.endswith("\n") else f"{pem}\n"


def _bare(endpoint: str) -> str:
    """As stunnel writes it, which takes what stands behind the last colon for the port: `[::1]:443` → `::1:443`"""
    return endpoint if endpoint.startswith("/") else f"{address_of(endpoint)}:{port_of(endpoint)}"
