"""Two gateways on one Postgres: what one user may have holds over both, and keys are everywhere what they are at one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.crowd import ask_all, ask_with
from tests.gateway.process import Gateway, back_end, running
from tests.gateway.test_load import configuration

Two = tuple[Gateway, Gateway]
SECOND_S = 1.0
"""So soon a key that was disabled is refused everywhere."""


@contextmanager
def two(directory: Path, on_postgres: dict[str, Any], users: dict[str, Any]) -> Iterator[Two]:
    with (
        back_end(8) as url,
        running(directory / "one", configuration(url, **on_postgres), users) as one,
        running(directory / "other", configuration(url, **on_postgres), users) as other,
    ):
        yield one, other


def requests(number: int, window_s: int) -> dict[str, Any]:
    return {"limits": {"requests": number, "window_s": window_s}}


async def ask_both(gateways: Two, user: str, number: int) -> Counter[int]:
    both = await asyncio.gather(*(ask_all(gateway.url, [(user, 8)] * number, at_once=8) for gateway in gateways))
    return both[0].all() + both[1].all()


def test_a_limit_holds_over_both_and_all_of_it_is_given(tmp_path: Path, on_postgres: dict[str, Any]) -> None:
    """A lease is a twentieth of the limit: each gateway may hold that much less one of what the other asks for, for a twentieth of the
    window."""
    limit, window_s, held = 100, 60, 5 - 1
    users = {"ann": requests(limit, window_s), "bob": requests(limit, window_s)}
    with two(tmp_path, on_postgres, users) as gateways:

        async def one_user(name: str) -> tuple[int, int]:
            said = await ask_both(gateways, name, limit)
            assert set(said) == {200, 429}
            first = said[200]
            ends = time.monotonic() + window_s / 2
            while said[200] < limit and time.monotonic() < ends:
                await asyncio.sleep(0.5)
                said += await ask_both(gateways, name, 1)
            return first, (said + await ask_both(gateways, name, 10))[200]

        async def both() -> list[tuple[int, int]]:
            return list(await asyncio.gather(one_user("ann"), one_user("bob")))

        for first, whole in asyncio.run(both()):
            assert limit - 2 * held <= first <= limit and whole == limit


def test_a_gateway_that_is_killed_with_leases_breaks_no_limit_and_what_it_held_comes_back_with_the_window(
    tmp_path: Path, on_postgres: dict[str, Any]
) -> None:
    limit, window_s = 100, 8
    with two(tmp_path, on_postgres, {"ann": requests(limit, window_s)}) as (one, other):

        async def crowd() -> tuple[int, int, int]:
            at_one = (await ask_all(one.url, [("ann", 8)], at_once=1)).all()[200]
            await asyncio.to_thread(one.stop, signal.SIGKILL)
            began = time.monotonic()
            at_other = (await ask_all(other.url, [("ann", 8)] * 2 * limit, at_once=8)).all()[200]
            assert time.monotonic() - began < window_s, "too slow to show anything"
            await asyncio.sleep(window_s + 2)
            return at_one, at_other, (await ask_all(other.url, [("ann", 8)] * 2 * limit, at_once=8)).all()[200]

        at_one, at_other, later = asyncio.run(crowd())
    assert at_one == 1 and at_one + at_other == limit - 4 and later == limit


def test_keys_work_at_both_at_once_and_are_refused_at_both_within_a_second(tmp_path: Path, on_postgres: dict[str, Any]) -> None:
    with two(tmp_path, on_postgres, {"ann": {}}) as gateways:
        one, other = gateways
        made = one.command("create-user", "--username", "eve")
        assert made.returncode == 0, made.stderr
        key = next(word for word in made.stdout.split() if word.startswith("sk-"))

        async def statuses() -> set[int]:
            return {await ask_with(gateway.url, key) for gateway in gateways}

        assert asyncio.run(statuses()) == {200}
        for change, status in (("disable-user", 401), ("enable-user", 200)):
            done = other.command(change, "eve")
            assert done.returncode == 0, done.stderr
            time.sleep(SECOND_S)
            assert asyncio.run(statuses()) == {status}, change


def test_two_gateways_on_one_sqlite_file_are_refused(tmp_path: Path) -> None:
    shared = {"database": f"sqlite:{tmp_path}/shared.db"}
    with (
        back_end(1) as url,
        running(tmp_path / "one", configuration(url, **shared)),
        pytest.raises(AssertionError, match="SQLite is for one gateway; several share a Postgres"),
        running(tmp_path / "other", configuration(url, **shared)),
    ):
        pass
