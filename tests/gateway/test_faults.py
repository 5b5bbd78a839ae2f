"""What stands around the gateway fails: a back end, the gateway itself. Whatever was accepted has its row, and its answer or an error."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateway.crowd import ask_all, ask_with
from tests.gateway.process import back_end, free_port, key_of, running
from tests.gateway.test_load import all_rows, by_status, configuration
from tests.postgres import Postgres

USERS = {f"user{number}": {"weight": 1 + number % 3} for number in range(10)}


def asked(number: int, tokens: int = 8) -> list[tuple[str, int]]:
    return [(f"user{each % len(USERS)}", tokens) for each in range(number)]


def test_a_back_end_that_is_killed_costs_only_the_streams_that_it_had_begun(tmp_path: Path, database: dict[str, Any]) -> None:
    port = free_port()

    async def crowd(url: str) -> Counter[int]:
        waiting = asyncio.create_task(ask_all(url, asked(400), at_once=16))
        for _ in range(2):
            with back_end(4, "--token-ms", "2", port=port):
                await asyncio.sleep(1.0)
        return (await waiting).all()

    with back_end(4, "--token-ms", "2") as whole:
        said = configuration(whole, f"http://127.0.0.1:{port}", **database)
        with running(tmp_path, said, USERS) as gateway:
            statuses = asyncio.run(crowd(gateway.url))
            assert gateway.stop() == 0
            assert all_rows(gateway).total() == 400
    broken = statuses[1] + statuses[0] + statuses[502]
    assert statuses[200] + broken == 400 and broken <= 8, statuses  # four slots, killed twice


def test_sigterm_loses_nothing_that_was_accepted(tmp_path: Path, database: dict[str, Any]) -> None:
    with back_end(4, "--token-ms", "5") as url, running(tmp_path, configuration(url, **database), USERS) as gateway:

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


def test_sigkill_loses_no_row_but_those_of_the_last_batch(tmp_path: Path, database: dict[str, Any]) -> None:
    """Killed while all ask. What it had counted as written is there, no row twice, and the rows that are lost were in memory: they are the
    difference between what was answered and what is there."""
    with back_end(4, "--token-ms", "1") as url, running(tmp_path, configuration(url, **database), USERS) as gateway:

        async def crowd() -> tuple[Counter[int], int, int]:
            waiting = asyncio.create_task(ask_all(gateway.url, asked(400), at_once=16, again=True))
            while not (written := int((await asyncio.to_thread(gateway.figures))["paddock_gateway_log_rows_written_total"])):
                await asyncio.sleep(0.05)
            await asyncio.to_thread(gateway.stop, signal.SIGKILL)
            there = len(await asyncio.to_thread(gateway.rows, "SELECT DISTINCT request_id FROM llama_requests"))
            gateway.start()
            return (await waiting).all(), written, there

        statuses, written, there = asyncio.run(crowd())
        assert gateway.stop() == 0
        assert 0 < written <= there
        ((rows, different),) = gateway.rows("SELECT count(*), count(DISTINCT request_id) FROM llama_requests WHERE status_code = 200")
    # Of 16 at once each breaks off where it is, and once more where it connects while the process is about to be gone.
    assert statuses[200] + statuses[0] + statuses[1] == 400 and statuses[0] + statuses[1] <= 2 * 16
    assert rows == different
    # All that the second one answered has its row: what is lost was answered before, and not written yet.
    assert there <= rows <= 400


def test_a_postgres_that_stops_and_one_that_is_killed_cost_no_answer_and_no_row(
    tmp_path: Path, on_postgres: dict[str, Any], server: Postgres
) -> None:
    """Keys that are known go on to work, one that was made at work too; rows wait on the disk; limits hold."""
    limited = USERS | {"user0": {"limits": {"requests": 20, "window_s": 3600}}}
    with back_end(4, "--token-ms", "2") as url, running(tmp_path, configuration(url, **on_postgres), limited) as gateway:
        made = gateway.command("create-user", "--username", "eve")
        assert made.returncode == 0, made.stderr
        key = next(word for word in made.stdout.split() if word.startswith("sk-"))
        assert asyncio.run(ask_with(gateway.url, key)) == 200

        async def crowd() -> Counter[tuple[str, int]]:
            waiting = asyncio.create_task(ask_all(gateway.url, asked(600), at_once=16))
            for how in (signal.SIGINT, signal.SIGKILL):
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.stop, how)
                assert await ask_with(gateway.url, key) == 200
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.start)
            return by_status(await waiting)

        try:
            said = asyncio.run(crowd())
        finally:
            if server.process is None:
                server.start()
        assert gateway.stop() == 0
        rows = all_rows(gateway)
        ((number, different),) = gateway.rows("SELECT count(*), count(DISTINCT request_id) FROM llama_requests")
    assert rows == said + Counter({("eve", 200): 3}) and number == different == 603
    assert {status for user, status in said if user != "user0"} == {200}
    assert said["user0", 200] == 20
