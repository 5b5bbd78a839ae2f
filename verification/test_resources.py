"""Each resource of the plan is so on the host."""

from __future__ import annotations

from resources import Resource
from verification.asserting import assert_as_declared
from verification.subject import VerifiedHost


def test_is_as_declared(subject: VerifiedHost, resource: Resource) -> None:
    assert_as_declared(subject, resource)
