"""What is done in a home, by the account that it belongs to: links to what is the account's. Stopped, the unit takes them all back.

It is not stopped when the machine is shut down. What browsers have in their databases is a unit of its own, beside this one: where it
leaves the inventory it takes that out before the tools to do so go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resources import File, Resource, Service
from roles.client.part import Person, SeatPart
from roles.role import render

UNITS = "/etc/systemd/system"

NOTES = ".local/state/paddock/client"
"""Where in a home it is noted what was done there."""


def at_home(person: Person, parts: tuple[SeatPart, ...]) -> Iterator[Resource]:
    links = {path: target for part in parts for path, target in part.links.items()}
    script = script_of(person, "seat", links=links)
    unit = unit_of(person, "seat", f"Links in {person.account}'s home to certificates and settings")
    yield script
    yield unit
    yield Service(unit_name(person, "seat"), restarts=(unit, script))


def unit_name(person: Person, what: str) -> str:
    """`paddock-seat-ann.service`"""
    return f"paddock-{what}-{person.account}.service"


def script_of(person: Person, name: str, **values: Any) -> File:
    """A script for the account, which lies where it may read it."""
    text = render(f"client/{name}.sh.j2", home=person.home, account=person.account, directory=person.directory, notes=NOTES, **values)
    return File(f"{person.directory}/{name}.sh", text, group=person.account, mode=0o640)


def unit_of(person: Person, what: str, description: str, *, watch: str = "") -> File:
    """The unit that runs a script of the account with `on`, and with `off` when it is stopped."""
    text = render(
        "client/paddock-seat.service.j2",
        description=description,
        watch=watch,
        account=person.account,
        home=person.home,
        unit=unit_name(person, what).removesuffix(".service"),
        script=f"{person.directory}/{what}.sh",
    )
    return File(f"{UNITS}/{unit_name(person, what)}", text)
