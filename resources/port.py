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


@dataclass(frozen=True)
class Port(Resource):
    """What listens, and on which addresses: nothing may listen on this port anywhere else. `unit` is who listens: a service, or a socket
    unit, for which systemd does it.

    `reachable_from` are the hosts of the fleet, by name, and the addresses that may reach it, beside its own host; None is everybody whom
    its address lets in. That is so where the host carries a firewall.
    """

    kind: ClassVar[str] = "port"
    phase: ClassVar[Phase] = "never"
    listed: ClassVar[bool] = True

    number: int
    addresses: tuple[str, ...]
    unit: str
    protocol: Literal["tcp", "udp"] = "tcp"
    reachable_from: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        return f"port:{self.number}/{self.protocol}"

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
        if not mine:
            return {}
        addresses = sorted({each[4].rpartition(":")[0].strip("[]").partition("%")[0] for each in mine})
        units = {unit for each in mine for unit in _holders(each, answer)}
        return {"addresses": " ".join(addresses), "unit": " ".join(sorted(units))}

    @property
    def noted(self) -> bool:
        return False  # it is open as long as its service runs

    def state(self, found: Attributes) -> str:
        return found.get("addresses") or super().state(found)


def _units(answer: ProbeAnswer) -> Mapping[str, str]:
    return {pid: group.rstrip("/").rpartition("/")[2] for pid, group in answer.pairs("cgroup")}


def _holders(socket: Sequence[str], answer: ProbeAnswer) -> set[str]:
    """The units of the processes that have a socket. What systemd has is its socket unit's, although that one's service has it too."""
    pids = {part.partition(",")[0] for part in " ".join(socket[6:]).split("pid=")[1:]}
    if MANAGER in pids:
        number, kind = socket[4].rpartition(":")[2], KINDS.get(socket[0], "")
        held = (line.split("\t") for line in answer.lines("held") if "\t" in line)
        if units := {each[0] for each in held if each[1].rpartition(":")[2] == number and each[2:] == [kind]}:
            return units
    units_of = answer.once(_units)
    return {units_of.get(pid, "?") for pid in pids}
