"""Each resource of the plan is so on the host."""

from __future__ import annotations

from roles.resources import Resource
from tests.verify.asserting import assert_as_declared
from tests.verify.subject import Subject


def test_is_as_declared(subject: Subject, resource: Resource) -> None:
    assert_as_declared(subject, resource)
