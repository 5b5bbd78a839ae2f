"""The gateway as a process sends traces while it serves: each answered request has one, whatever becomes of Langfuse meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from paddock_gateway.tracing import WAITING
from tests.gateway.crowd import ask_all
from tests.gateway.process import back_end, free_port, key_of, running
from tests.gateway.test_load import all_rows, configuration
from tests.unit.gateway.test_tracing import SECRET, Langfuse

USERS = {f"user{number}": {} for number in range(5)}
ASKED = [(f"user{each % len(USERS)}", 8) for each in range(200)]


def users_of(langfuse: Langfuse) -> Counter[str]:
    said = [{each["key"]: next(iter(each["value"].values())) for each in span["attributes"]} for span in langfuse.spans]
    return Counter(each["user.id"] for each in said)


def traced(directory: Path, url: str, port: int) -> dict[str, Any]:
    (directory / "langfuse-key").write_text(SECRET)
    said = {"url": f"http://127.0.0.1:{port}", "public_key": "pk-lf-1", "secret_key_file": str(directory / "langfuse-key")}
    return {**configuration(url), "tracing": said}


@pytest.mark.parametrize("away", [False, True], ids=["there all the while", "away at first, then slow"])
def test_each_request_has_its_trace_and_none_waits_for_it(tmp_path: Path, away: bool) -> None:
    langfuse = Langfuse(port=free_port(), slow_s=0.5 if away else 0.0)

    async def work(url: str) -> Counter[int]:
        asking = asyncio.create_task(ask_all(url, ASKED, at_once=16))
        if away:
            await asking
        async with langfuse.listening():
            statuses = (await asking).all()
            async with asyncio.timeout(60):
                while len(langfuse.spans) < len(ASKED):
                    await asyncio.sleep(0.1)
            return statuses

    with back_end(4, "--token-ms", "1") as url, running(tmp_path, traced(tmp_path, url, langfuse.port), USERS) as gateway:
        assert asyncio.run(work(gateway.url)) == Counter({200: len(ASKED)})
        assert users_of(langfuse) == Counter(user for user, _ in ASKED)
        figures = gateway.figures()
        assert figures["paddock_gateway_traces_sent_total"] == len(ASKED) and not figures["paddock_gateway_traces_dropped_total"]
        said = json.dumps(langfuse.spans)
        assert gateway.stop() == 0
        assert all_rows(gateway).total() == len(ASKED)
    assert "word " not in said and "Request " not in said, "something of what was said"


def test_a_gateway_ends_in_time_while_langfuse_is_away(tmp_path: Path) -> None:
    with back_end(4, "--token-ms", "1") as url, running(tmp_path, traced(tmp_path, url, free_port()), USERS) as gateway:
        asyncio.run(ask_all(gateway.url, ASKED[:20], at_once=4))
        assert gateway.stop(within_s=30) == 0
        log = gateway.log.read_text()
    assert "Langfuse takes no traces" in log and "Traces are dropped, and counted: the gateway ends" in log and "Traceback" not in log


async def list_models(url: str, often: int) -> Counter[int]:
    """The cheapest request that has a row."""
    statuses: Counter[int] = Counter()
    left = iter(range(often))

    async def caller(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key_of('user0')}"}) as answer:
                statuses[answer.status] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(caller(session) for _ in range(16)))
    return statuses


def test_of_a_burst_while_langfuse_fails_as_many_as_find_room_arrive_once_each(tmp_path: Path) -> None:
    langfuse = Langfuse(port=free_port(), answers=[500] * 1000)
    many = WAITING + 300

    with back_end(1, "--token-ms", "1") as url, running(tmp_path, traced(tmp_path, url, langfuse.port), USERS) as gateway:

        async def work() -> None:
            async with langfuse.listening():
                assert await list_models(gateway.url, many) == Counter({200: many})
                async with asyncio.timeout(60):  # the burst may be over before the first try
                    while (figures := await asyncio.to_thread(gateway.figures))["paddock_gateway_traces_up"]:
                        await asyncio.sleep(0.1)
                assert figures["paddock_gateway_traces_waiting"] == WAITING and figures["paddock_gateway_traces_dropped_total"] == 300
                langfuse.answers = []
                async with asyncio.timeout(120):
                    while len(langfuse.spans) < WAITING:
                        await asyncio.sleep(0.1)

        asyncio.run(work())
        assert len({span["spanId"] for span in langfuse.spans}) == len(langfuse.spans) == WAITING
        assert gateway.figures()["paddock_gateway_traces_dropped_total"] == 300 and gateway.stop() == 0


def test_a_gateway_that_is_stopped_sends_what_still_waits(tmp_path: Path) -> None:
    langfuse = Langfuse(port=free_port(), slow_s=0.5)

    with back_end(1, "--token-ms", "1") as url, running(tmp_path, traced(tmp_path, url, langfuse.port), USERS) as gateway:

        async def work() -> int:
            async with langfuse.listening():
                assert await list_models(gateway.url, 300) == Counter({200: 300})
                return await asyncio.to_thread(gateway.stop)

        assert asyncio.run(work()) == 0
    assert len(langfuse.spans) == 300
