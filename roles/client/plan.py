"""For each account its certificate, and what its programs need; then one unit, run as that account, that puts it where they look."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from resources import Directory, Resource
from roles.client.bridge import bridge
from roles.client.browsers import browsers, policies
from roles.client.certificates import FILES, certificates
from roles.client.home import at_home
from roles.client.part import DIRECTORY, Person
from roles.client.pi import pi
from roles.client.settings import ClientSettings, home_of
from roles.expiry import Pem, expiry_watch


def plan(host: Host, settings: ClientSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    seated = tuple(people(host, settings, fleet, knowledge))
    yield from policies(seated)
    for person in seated:
        yield Directory(person.directory, group=person.account, mode=0o750, exclusive=True)
        parts = (
            certificates(person),
            *((browsers(person),) if person.seat.browsers else ()),
            *((bridge(person, fleet, knowledge),) if person.seat.bridge else ()),
            *((pi(person, fleet, knowledge),) if person.seat.pi else ()),
        )
        for part in parts:
            yield from part.resources
        yield from at_home(person, parts)
    if seated:
        pems = (Pem(f"{person.certificates}/{name}", ca=name == FILES[0]) for person in seated for name in FILES[:2])
        yield from expiry_watch("client", host.name, pems, settings.expiry)


def people(host: Host, settings: ClientSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Person]:
    """The accounts whose client is not thrown out: of one that is, all leaves the host."""
    for account, seat in settings.accounts.items():
        if seat.client not in knowledge.clients:
            continue
        yield Person(
            host=host.name,
            account=account,
            seat=seat,
            home=home_of(account, seat),
            identity=knowledge.identities.get(seat.client, Certificate(TO_BE_ISSUED, TO_BE_ISSUED)),
            ca=knowledge.ca,
            entrances=tuple(fleet.entrances(seat.client)),
            fleet=fleet.name,
        )
