"""A host's ports while something happens to it: what listens, out of the kernel's own list, and what answers a caller from outside."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import TracebackType

from lab.engine import reach

LISTEN, UNCONNECTED = "0A", "07"
"""States in /proc/net/tcp and /proc/net/udp."""

LOOK_EVERY_S = 0.02
SCANNED = (*range(1, 22), *range(23, 1025), 2015, 2019, 3000, *range(5000, 5010), *range(8000, 8100), 8443, 9000, *range(9090, 9110), 11434)
"""What services that a deploy brings would answer on, whatever was configured. Not sshd: it shuts out who knocks and leaves so often."""


@dataclass(frozen=True, order=True)
class Socket:
    protocol: str
    address: str
    port: int
    uid: int

    @property
    def is_local(self) -> bool:
        return ip_address(self.address).is_loopback


@dataclass
class PortWatch:
    """Looks and scans until it is left. `listened` is every socket ever seen to listen, `answered` every port that took a connection."""

    container: str
    address: str
    listened: set[Socket] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    looks: int = 0
    scans: int = 0

    def __enter__(self) -> PortWatch:
        pid = reach().run("inspect", "--format", "{{.State.Pid}}", self.container)
        self._net = Path(f"/proc/{pid}/net")  # the tables of the network that this process is in: the container's
        self._left = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._look, self._scan)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._left.wait(LOOK_EVERY_S):
            self.listened |= set(listening(self._net))
            self.looks += 1

    def _scan(self) -> None:
        while not self._left.wait(0.4):
            self.answered |= scan(self.address, SCANNED)
            self.scans += 1


def listening(net: Path) -> Iterator[Socket]:
    """What listens, from /proc/PID/net: `0: 0100007F:1F90 00000000:0000 0A … uid …`."""
    for table, protocol, state in (
        ("tcp", "tcp", LISTEN),
        ("tcp6", "tcp", LISTEN),
        ("udp", "udp", UNCONNECTED),
        ("udp6", "udp", UNCONNECTED),
    ):
        for line in (net / table).read_text().splitlines()[1:]:
            _, local, _, found, _, _, _, uid, *_ = line.split()
            if found == state:
                address, _, port = local.partition(":")
                yield Socket(protocol, str(_address(address)), int(port, 16), int(uid))


def _address(digits: str) -> IPv4Address | IPv6Address:
    """The kernel prints the four bytes of each word in the order of the machine's memory."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def scan(address: str, ports: tuple[int, ...] | range) -> set[int]:
    """The TCP ports that take a connection."""
    found = set()
    for port in ports:
        with socket.socket() as caller:
            caller.settimeout(1)
            if caller.connect_ex((address, port)) == 0:
                found.add(port)
        if port % 64 == 0:
            time.sleep(0.005)  # the host is at work meanwhile
    return found
