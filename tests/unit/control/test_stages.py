"""Which hosts that failed keep a role from its turn."""

from __future__ import annotations

import pytest

from deploys.applying import missing


@pytest.mark.parametrize(
    ("failed", "lost"),
    [
        (set(), []),
        ({"other"}, []),
        ({"needed"}, ["needed"]),
        ({"a"}, []),
        ({"b", "other"}, []),
        ({"a", "b"}, ["a", "b"]),
        ({"c", "a"}, ["c"]),
        ({"a", "b", "c", "needed", "other"}, ["a", "b", "c", "needed"]),
    ],
)
def test_a_role_waits_for_each_host_that_it_needs_and_for_one_of_those_that_stand_in_for_each_other(
    failed: set[str], lost: list[str]
) -> None:
    assert missing(failed, {"needed"}, [("a", "b"), ("c",)]) == lost
