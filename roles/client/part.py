"""What one account is given: who it is, and what each part of the role adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory.knowledge import Certificate
from resources import Resource
from roles.client.settings import Seat
from roles.server import Entrance

DIRECTORY = "/etc/paddock/clients"


@dataclass(frozen=True)
class Person:
    """An account of the host, with the certificate that it presents. `entrances` are the sites that let it in."""

    host: str
    account: str
    seat: Seat
    home: str
    identity: Certificate
    ca: str
    entrances: tuple[Entrance, ...]
    fleet: str

    @property
    def directory(self) -> str:
        """What is the account's to read and root's to write. Nothing is ever written into a home by root: see seat.sh."""
        return f"{DIRECTORY}/{self.account}"

    @property
    def certificates(self) -> str:
        """Where `root-ca.pem`, `client.pem` and `client-key.pem` lie."""
        return f"{self.directory}/certs"


@dataclass(frozen=True)
class SeatPart:
    """`resources` land before the seat is taken; `links` are what appears in the home, by its path there: `.pi/agent/models.json`."""

    resources: tuple[Resource, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
