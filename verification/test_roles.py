"""Each role does what it is for, seen as its users see it."""

from __future__ import annotations

from collections.abc import Callable

from verification.subject import VerifiedHost


def test_role(subject: VerifiedHost, role: str, check: Callable[..., None]) -> None:
    subject.call(check, role)
