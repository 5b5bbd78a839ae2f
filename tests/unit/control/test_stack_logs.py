"""What containers say, as `docker compose logs --timestamps` gives it, and how a stack that was stopped is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from control.servers.host_stack import HostStack
from control.servers.stacks import logs
from inventory.errors import PaddockError
from resources import Stack
from resources.stack import Container

STACK = Stack("web", "/etc/paddock/stacks/web", containers=(Container("page", "", ""), Container("big-store", "", "")))


class Says:
    """A host that says these lines to whatever it is asked."""

    def __init__(self, *lines: str) -> None:
        self._lines = lines

    def lines(self, host: str, command: str, doing: str) -> Iterator[str]:
        return iter(self._lines)


def said(*lines: str) -> list[tuple[int, str, str]]:
    found = logs(cast(Any, Says(*lines)), HostStack("ai", STACK), since="", count=50, follow=False)
    return [(each.at, each.server, each.text) for each in found]


def test_each_line_has_its_container_and_its_time() -> None:
    assert said(
        "page-1       | 2026-11-30T14:45:00.123456789Z GET / | 200",
        "\x1b[2Kbig-store-1  | 2026-11-30T14:45:01Z ",
    ) == [(1_796_049_900_123_456, "ai/web/page", "GET / | 200"), (1_796_049_901_000_000, "ai/web/big-store", "")]


def test_a_line_of_compose_itself_stands_where_it_came() -> None:
    first, second = said("page-1  | 2026-11-30T14:45:00.5Z up", "page-1 exited with code 1")
    assert first[0] == second[0] and second[1:] == ("ai/web", "page-1 exited with code 1")


def test_what_is_no_time_is_told_in_one_line() -> None:
    with pytest.raises(PaddockError, match="says what is no time: 2026-99-30T14:45:00"):
        said("page-1  | 2026-99-30T14:45:00Z up")


@pytest.mark.parametrize(
    ("page", "store", "state"),
    [
        ("exited", "exited, unhealthy", "stopped"),
        ("exited", "running, healthy", "1 of 2 running"),
        ("restarting", "exited", "0 of 2 running"),
    ],
)
def test_a_stack_whose_containers_were_all_stopped_is_stopped(page: str, store: str, state: str) -> None:
    assert STACK.state({"page": page, "big-store": store}) == state
