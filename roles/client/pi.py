"""What the pi coding agent reads: its models, and the extension ai-server."""

from __future__ import annotations

from inventory.context import Context
from inventory.schema import Fleet
from roles.client.part import Part, Person


def pi(person: Person, fleet: Fleet, context: Context) -> Part:
    return Part()
