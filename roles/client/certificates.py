"""The account's certificate, its key, and the CA, under the names that pi's extension looks for."""

from __future__ import annotations

from resources import Directory, File
from roles.client.part import Person, SeatPart

FILES = ("root-ca.pem", "client.pem", "client-key.pem")
PI_CERTIFICATES = ".pi/agent/certs"


def certificates(person: Person) -> SeatPart:
    where, group = person.certificates, person.account
    files = (
        File(f"{where}/root-ca.pem", person.ca, group=group, mode=0o640),
        File(f"{where}/client.pem", person.identity.chain, group=group, mode=0o640),
        File(f"{where}/client-key.pem", person.identity.key, group=group, mode=0o640, secret=True),
    )
    links = {f"{PI_CERTIFICATES}/{name}": f"{where}/{name}" for name in FILES}
    return SeatPart((Directory(where, group=group, mode=0o750, exclusive=True), *files), links)
