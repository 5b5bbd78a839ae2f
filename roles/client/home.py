"""What is done in a home, by the account that it belongs to: links, and the databases of browsers. Stopped, the unit takes it all back."""

from __future__ import annotations

from collections.abc import Iterator

from roles.client.part import Part, Person
from roles.resources import Resource


def at_home(person: Person, parts: tuple[Part, ...]) -> Iterator[Resource]:
    yield from ()
