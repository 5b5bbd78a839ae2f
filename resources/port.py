"""Ports that services listen on, or that systemd holds for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from resources.base import Attributes, Phase, Resource, of_kind
from resources.probe import ProbeAnswer

MANAGER = "1"
"""The process of systemd."""

KINDS = {"tcp": "Stream", "udp": "Datagram"}

EVERYWHERE = ("*", "0.0.0.0", "::")


@dataclass(frozen=True)
class Port(Resource):
    """What listens, and on which addresses: nothing may listen on this port anywhere else. `unit` is who listens: a service, or a socket
    unit, for which systemd does it.

    `reachable_from` are the hosts of the fleet, by name, and the addresses that may reach it, beside its own host; None is everybody whom
    its address lets in. That is so where the host carries a firewall. Where it is `shared`, others may listen on other addresses of that
    number: an encrypted way in from the network, say, beside one on loopback. `by_certificate` says that callers have to be hosts that show
    one.
    """

    kind: ClassVar[str] = "port"
    phase: ClassVar[Phase] = "never"
    listed: ClassVar[bool] = True

    number: int
    addresses: tuple[str, ...]
    unit: str
    protocol: Literal["tcp", "udp"] = "tcp"
    reachable_from: tuple[str, ...] | None = None
    shared: bool = False
    by_certificate: bool = False

    @property
    def id(self) -> str:
        return f"port:{self.place}"

    @property
    def place(self) -> str:
        """`8080/tcp`, or where it is shared `8080/tcp/127.0.0.1`: what the shell is told."""
        return f"{self.number}/{self.protocol}" + (f"/{self.addresses[0]}" if self.shared else "")

    @property
    def desired(self) -> Attributes:
        return {"addresses": " ".join(sorted(self.addresses)), "unit": self.unit}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        ports = " or ".join(dict.fromkeys(f"sport = :{each.number}" for each in of_kind(resources, cls)))
        return {"ports": [f"( {ports} )"] if ports else []}

    def found(self, answer: ProbeAnswer) -> Attributes:
        """A line of ss: protocol, state, two queues, local address and port, peer, `users:(("name",pid=7,fd=3))`."""
        sockets = [line.split() for line in answer.lines("socket") if line]
        mine = [each for each in sockets if each[0] == self.protocol and each[4].rpartition(":")[2] == str(self.number)]
        if self.shared:
            mine = [each for each in mine if _address(each) in (*self.addresses, *EVERYWHERE)]
        if not mine:
            return {}
        addresses = sorted({_address(each) for each in mine})
        units = {unit for each in mine for unit in _holders(each, answer)}
        return {"addresses": " ".join(addresses), "unit": " ".join(sorted(units))}

    @property
    def noted(self) -> bool:
        return False  # it is open as long as its service runs

    def state(self, found: Attributes) -> str:
        return found.get("addresses") or super().state(found)


def _address(socket: Sequence[str]) -> str:
    """Where it listens; a line of ss, in words."""
    return socket[4].rpartition(":")[0].strip("[]").partition("%")[0]


def _units(answer: ProbeAnswer) -> Mapping[str, str]:
    return {pid: group.rstrip("/").rpartition("/")[2] for pid, group in answer.pairs("cgroup")}


def _holders(socket: Sequence[str], answer: ProbeAnswer) -> set[str]:
    """The units of the processes that have a socket. What systemd has is its socket unit's, although that one's service has it too."""
    pids = {part.partition(",")[0] for part in " ".join(socket[6:]).split("pid=")[1:]}
    if MANAGER in pids:
        at, number, kind = socket[4].replace("*:", "[::]:"), socket[4].rpartition(":")[2], KINDS.get(socket[0], "")
        held = [line.split("\t") for line in answer.lines("held") if "\t" in line]
        units = {each[0] for each in held if each[1].rpartition(":")[2] == number and each[2:] == [kind]}
        if units := {each[0] for each in held if each[1:] == [at, kind]} or units:  # systemd may write an address otherwise than ss
            return units
    units_of = answer.once(_units)
    return {units_of.get(pid, "?") for pid in pids}
