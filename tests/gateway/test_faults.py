"""What stands around the gateway fails: a back end, the gateway itself. Whatever was accepted has its row, and its answer or an error."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp

from tests.gateway.crowd import ask_all
from tests.gateway.process import back_end, free_port, key_of, running
from tests.gateway.test_load import all_rows, by_status, configuration, rows

USERS = {f"user{number}": {"weight": 1 + number % 3} for number in range(10)}


def asked(number: int, tokens: int = 8) -> list[tuple[str, int]]:
    return [(f"user{each % len(USERS)}", tokens) for each in range(number)]


def test_a_back_end_that_is_killed_costs_only_the_streams_that_it_had_begun(tmp_path: Path) -> None:
    port = free_port()

    async def crowd(url: str) -> Counter[int]:
        waiting = asyncio.create_task(ask_all(url, asked(400), at_once=16))
        for _ in range(2):
            with back_end(4, "--token-ms", "2", port=port):
                await asyncio.sleep(1.0)
        return (await waiting).all()

    with back_end(4, "--token-ms", "2") as whole, running(tmp_path, configuration(whole, f"http://127.0.0.1:{port}"), USERS) as gateway:
        statuses = asyncio.run(crowd(gateway.url))
        assert gateway.stop() == 0
        assert all_rows(gateway).total() == 400
    broken = statuses[1] + statuses[0] + statuses[502]
    assert statuses[200] + broken == 400 and broken <= 8, statuses  # four slots, killed twice


def test_sigterm_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    with back_end(4, "--token-ms", "5") as url, running(tmp_path, configuration(url), USERS) as gateway:

        async def crowd() -> Counter[int]:
            waiting = asyncio.create_task(ask_all(gateway.url, asked(300), at_once=40, again=True))
            await asyncio.sleep(1.0)
            assert await asyncio.to_thread(gateway.stop) == 0
            gateway.start()
            return (await waiting).all()

        statuses = asyncio.run(crowd())
        assert gateway.stop() == 0
        answered = sum(number for (_, status), number in all_rows(gateway).items() if status == 200)
    assert set(statuses) <= {200, 503} and statuses[200] >= 250, statuses
    assert answered == statuses[200]


def test_sigterm_lets_who_waits_for_generate_have_their_turn(tmp_path: Path) -> None:
    said = {"pi": {"model": "tiny", "max_concurrent": 1}}
    with back_end(4, "--token-ms", "20") as url, running(tmp_path, configuration(url, **said), {"ann": {}}) as gateway:
        headers = {"X-API-Key": key_of("ann")}

        async def crowd() -> list[int]:
            async with aiohttp.ClientSession(gateway.url, headers=headers) as session:

                async def one() -> int:
                    async with session.post("/generate", json={"prompt": "a", "max_tokens": 10, "stream": False}) as response:
                        return response.status

                asking = [asyncio.create_task(one()) for _ in range(6)]
                while gateway.status()["waiting"] != 5:
                    await asyncio.sleep(0.01)
                assert await asyncio.to_thread(gateway.stop) == 0
                return await asyncio.gather(*asking)

        assert asyncio.run(crowd()) == [200] * 6


def test_while_it_restarts_on_a_port_that_is_held_for_it_nobody_is_refused(tmp_path: Path) -> None:
    with back_end(4, "--token-ms", "5") as url, running(tmp_path, configuration(url), USERS, held=True) as gateway:

        async def crowd() -> Counter[int]:
            waiting = asyncio.create_task(ask_all(gateway.url, asked(300), at_once=40))
            await asyncio.sleep(1.0)
            assert await asyncio.to_thread(gateway.stop) == 0
            await asyncio.to_thread(gateway.start)
            return (await waiting).all()

        assert asyncio.run(crowd()) == Counter({200: 300})


def test_sigkill_loses_no_row_but_those_of_the_last_batch(tmp_path: Path) -> None:
    with back_end(8) as url, running(tmp_path, configuration(url, log={"every_s": 0.25}), USERS) as gateway:
        said = asyncio.run(ask_all(gateway.url, asked(500), at_once=16))
        time.sleep(1.0)
        gateway.stop(signal.SIGKILL)
        assert said.all() == Counter({200: 500})
        assert all_rows(gateway) == by_status(said)
        gateway.start()
        more = asyncio.run(ask_all(gateway.url, asked(50), at_once=16))
        assert more.all() == Counter({200: 50})
        assert gateway.stop() == 0
        assert rows(gateway, "SELECT count(*) FROM llama_requests WHERE status_code = 200") == [(550,)]
