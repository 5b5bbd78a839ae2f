"""Clients that leave: llama-server gives up what it does for them, while it goes on for others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
import pytest

from tests.gateway.conftest import Llama
from tests.gateway.conversations import bearer, paragraph
from tests.gateway.process import Gateway, running

ALL = 30_000
"""Tokens that `long` takes many seconds to write, and to read."""

GIVES_UP_S = 20.0
"""On a machine that does much else. Meant is one second, which is printed beside what it took."""

WRITES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Go on."}], "max_tokens": ALL, "ignore_eos": True},
    "/v1/completions": {"prompt": "Go on.", "max_tokens": ALL, "ignore_eos": True},
    "/v1/responses": {"input": "Go on.", "max_output_tokens": ALL, "ignore_eos": True},
    "/completion": {"prompt": "Go on.", "n_predict": ALL, "ignore_eos": True},
}
READS = ("/v1/chat/completions", "/v1/messages", "/v1/completions", "/v1/responses", "/completion")


def read(path: str, letters: int = ALL) -> dict[str, Any]:
    """A prompt that no cache has."""
    prompt = paragraph(f"{path} {next(_prompts)}", letters)
    if path == "/v1/responses":
        return {"input": prompt, "max_output_tokens": 4}
    asked = (
        {"prompt": prompt} if path.endswith("completions") and "chat" not in path else {"messages": [{"role": "user", "content": prompt}]}
    )
    return {"prompt": prompt, "n_predict": 4} if path == "/completion" else {**asked, "max_tokens": 4}


_prompts = count()


@pytest.fixture(scope="module")
def gateway(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("leaving"), llama.configuration(), {"ann": {}, "bob": {}, "cem": {}}) as gateway:
        yield gateway


class Clients:
    """Of the model `long`. `slots` looks at llama-server itself."""

    def __init__(self, session: aiohttp.ClientSession, gateway: str, llama_server: str) -> None:
        self.session, self.gateway, self.llama_server = session, gateway, llama_server

    async def slots(self) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.llama_server}/slots") as answer:
            found: list[dict[str, Any]] = await answer.json()
        return [slot for slot in found if slot["is_processing"]]

    def ask(self, user: str, path: str, body: dict[str, Any], *, stream: bool) -> asyncio.Task[bytes]:
        """What came. To cancel it is to close its connection."""

        async def asked() -> bytes:
            said = {"model": "long", "stream": stream, **body}
            async with self.session.post(self.gateway + path, json=said, headers=bearer(user)) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.read()

        return asyncio.create_task(asked())

    async def until(self, busy: int, *, tokens: int = 0) -> float:
        """Seconds until so many slots are at work, each with so many tokens written."""
        begun = time.monotonic()
        while True:
            slots = await self.slots()
            if len(slots) == busy and all(_written(slot) >= tokens for slot in slots):
                return time.monotonic() - begun
            assert time.monotonic() - begun < GIVES_UP_S, f"{len(slots)} slots are at work, not {busy}"
            await asyncio.sleep(0.02)


def _written(slot: dict[str, Any]) -> int:
    told = slot.get("next_token") or {}
    told = told[0] if isinstance(told, list) else told
    written: int = told.get("n_decoded", 0)
    return written


async def leave(*tasks: asyncio.Task[bytes]) -> None:
    for task in tasks:
        assert not task.done(), "it has ended by itself"
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def clients(gateway: Gateway, llama: Llama) -> AsyncIterator[Clients]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        found = Clients(session, gateway.url, llama.urls["long"])
        await found.until(0)
        yield found


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", WRITES)
def test_a_client_that_leaves_while_the_answer_is_written_frees_its_slot(llama: Llama, gateway: Gateway, path: str, stream: bool) -> None:
    """Beside another's stream, which goes on."""

    async def main() -> None:
        async with clients(gateway, llama) as found:
            other = found.ask("bob", "/v1/chat/completions", WRITES["/v1/chat/completions"], stream=True)
            await found.until(1, tokens=1)
            leaving = found.ask("ann", path, WRITES[path], stream=stream)
            await found.until(2, tokens=1)
            await leave(leaving)
            print(f"{path}: freed after {await found.until(1):.3f} s")
            assert not other.done()
            await leave(other)
            await found.until(0)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", READS)
def test_a_client_that_leaves_while_its_prompt_is_read_frees_its_slot(llama: Llama, gateway: Gateway, path: str, stream: bool) -> None:
    async def main() -> None:
        async with clients(gateway, llama) as found:
            other = found.ask("bob", "/v1/chat/completions", WRITES["/v1/chat/completions"], stream=True)
            await found.until(1, tokens=1)
            leaving = found.ask("ann", path, read(path), stream=stream)
            await found.until(2)
            await leave(leaving)
            print(f"{path}: freed after {await found.until(1):.3f} s")
            assert not other.done()
            await leave(other)
            await found.until(0)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_the_queue_never_gets_to_llama_server(llama: Llama, gateway: Gateway, stream: bool) -> None:
    async def main() -> None:
        async with clients(gateway, llama) as found:
            running = [found.ask("bob", path, WRITES[path], stream=True) for path in ("/v1/chat/completions", "/v1/completions")]
            await found.until(2, tokens=1)
            at_work = {slot["id_task"] for slot in await found.slots()}
            waiting = [found.ask("ann", path, read(path), stream=stream) for path in READS]
            while gateway.status()["waiting"] < len(waiting):
                await asyncio.sleep(0.02)
            await leave(*waiting)
            while gateway.status()["waiting"]:
                await asyncio.sleep(0.02)
            assert {slot["id_task"] for slot in await found.slots()} == at_work
            await leave(*running)
            await found.until(0)
            short = await found.ask("cem", "/v1/chat/completions", {**WRITES["/v1/chat/completions"], "max_tokens": 4}, stream=False)
            assert b'"completion_tokens":4' in short

    asyncio.run(main())


@pytest.mark.parametrize("path", [path for path in READS if path != "/v1/messages"])
def test_a_stream_after_a_long_prompt_is_what_llama_server_says_itself(llama: Llama, gateway: Gateway, path: str) -> None:
    """Although the gateway has it count the prompt, so that it sees its reader go."""

    async def main() -> None:
        async with clients(gateway, llama) as found:
            body = {**read(path, 3000), "model": "long", "stream": True}
            came = await found.ask("ann", path, body, stream=True)
            async with found.session.post(found.llama_server + path, json=body) as answer:
                direct = await answer.read()
            assert _steady(came) == _steady(direct)

    asyncio.run(main())


def _steady(stream: bytes) -> list[Any]:
    """Its lines, without ids, times and counts of what came out of a cache."""
    lines = [line for line in stream.decode().split("\n") if line and line != ":"]
    return [_same(json.loads(line[6:])) if line.startswith("data: {") else line for line in lines]


def _same(said: Any) -> Any:
    if isinstance(said, list):
        return [_same(each) for each in said]
    if not isinstance(said, dict):
        return said
    varies = ("id", "item_id", "created", "created_at", "completed_at", "timings", "cached_tokens", "id_slot")
    return {name: _same(each) for name, each in said.items() if name not in varies and name != "generation_settings"}
