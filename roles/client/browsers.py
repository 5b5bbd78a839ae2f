"""Browsers that present the certificate: policies for the machine, and NSS databases in the home."""

from __future__ import annotations

from roles.client.part import Part, Person


def browsers(person: Person) -> Part:
    return Part()
