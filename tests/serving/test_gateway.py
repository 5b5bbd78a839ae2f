"""The gateway before a llama-server of a release: the same answers, the same clients, and slots that are free when callers leave."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.error import URLError

import aiohttp
import anthropic
import openai
import pytest

from lab.hosts import ssh_command
from tests.lab_fleet import lab_fleet
from tests.share import turn
from tests.unit.gateway.proxy.gateway_under_test import KEY, GatewayUnderTest, Places, gateway, reset, run, until

pytestmark = turn(1, of=5)

INVENTORY = """\
fleet: gatewayed
domain: home.example

hosts:
  one:
    address: 192.0.2.10
    roles:
      base:
      llama_cpp: {ui: false}
      models:
      llama_server:
        instances:
          chat: {model: small, listen: 127.0.0.1:8081, preset: {parallel: 2}}
          vectors: {model: small, listen: 127.0.0.1:8082, preset: {embeddings: true, pooling: mean}}

models:
  small: {preset: {ctx-size: 8192, cache-ram: 0}}
"""

PORTS = (8081, 8082)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of a server that chats, and of one that makes vectors."""
    with lab_fleet("gatewayed", tmp_path_factory.mktemp("gatewayed"), INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        here = [_free_port() for _ in PORTS]
        tunnels = [f"-L127.0.0.1:{port}:127.0.0.1:{there}" for port, there in zip(here, PORTS, strict=True)]
        with subprocess.Popen([*ssh_command(fleet.host("one")), "-N", *tunnels]) as tunnel:
            try:
                chat, vectors = (f"http://127.0.0.1:{port}" for port in here)
                _await(chat)
                _await(vectors)
                yield chat, vectors
            finally:
                tunnel.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _await(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


HI = [{"role": "user", "content": "hi there"}]
FIXED: dict[str, Any] = {"model": "small", "temperature": 0, "seed": 1, "cache_prompt": False}
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}}
TOOLS = [{"type": "function", "function": WEATHER}]

BOTH: list[tuple[str, dict[str, Any]]] = [
    *(("/v1/chat/completions", {"messages": HI, "max_tokens": most}) for most in (1, 5, 60)),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 12, "n": 2}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 60, "tools": TOOLS}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 60, "stop": ["tiny"]}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": 40, "response_format": {"type": "json_object"}}),
    ("/v1/completions", {"prompt": "hello", "max_tokens": 9}),
    ("/v1/completions", {"prompt": ["hello", "you"], "max_tokens": 9}),
    ("/v1/completions", {"prompt": "hello", "max_tokens": 9, "n": 2}),
    ("/v1/completions", {"prompt": "hello", "max_tokens": 9, "logprobs": 2}),
    ("/completion", {"prompt": "hello", "n_predict": 9}),
    ("/completion", {"prompt": ["hello", "you"], "n_predict": 9}),
    ("/completion", {"prompt": "hello", "n_predict": 5, "return_tokens": True}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 9}),
    ("/v1/messages", {"messages": HI, "max_tokens": 60}),
    ("/v1/messages", {"messages": HI, "max_tokens": 3, "system": "Be kind."}),
    ("/v1/messages", {"messages": HI, "max_tokens": 60, "stop_sequences": ["tiny"]}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ("/v1/chat/completions", {"messages": "x"}),
    ("/v1/chat/completions", {"messages": HI, "grammar": "root ::= ("}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x " * 20_000}]}),
    ("/v1/completions", {"prompt": {}}),
]
"""Asked for as a stream, and whole."""

WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions/input_tokens", {"messages": HI}),
    ("/v1/responses/input_tokens", {"input": "hi"}),
    ("/v1/messages/count_tokens", {"messages": HI}),
    ("/tokenize", {"content": "hi"}),
    ("/detokenize", {"tokens": [5, 6]}),
    ("/apply-template", {"messages": HI}),
    ("/v1/rerank", {"query": "hi", "documents": ["a"]}),
    ("/v1/embeddings", {"input": "hi"}),
]

VARIES = frozenset({"id", "created", "created_at", "completed_at", "timings", "id_slot", "item_id", "call_id"})


def steady(said: Any) -> Any:
    """Without ids and times."""
    if isinstance(said, dict):
        return {name: "*" if name in VARIES else steady(value) for name, value in said.items()}
    return [steady(each) for each in said] if isinstance(said, list) else said


def read(raw: bytes, stream: bool) -> list[str]:
    """JSON of each event, in the order of its fields, or of the answer."""
    lines = [line for line in raw.decode().split("\n") if line and not line.startswith(":")] if stream else [raw.decode()]
    found = []
    for line in lines:
        data = line.removeprefix("data: ")
        found.append(json.dumps(steady(json.loads(data))) if data.startswith(("{", "[")) and data != "[DONE]" else line)
    return found


@asynccontextmanager
async def before(url: str) -> AsyncIterator[GatewayUnderTest]:
    async with gateway(url, places=Places(slots=2)) as under:
        under.places.slot = None
        yield under


async def direct(under: GatewayUnderTest, url: str, path: str, body: dict[str, Any]) -> tuple[int, bytes, str]:
    async with under.session.post(url + path, json=body, headers={"Connection": "close"}) as response:
        return response.status, await response.read(), response.headers["Content-Type"]


def test_answers_and_streams_equal_those_taken_directly(urls: tuple[str, str]) -> None:
    async def test() -> None:
        async with before(urls[0]) as under:
            asked = [(path, {**FIXED, **body}, stream) for path, body in BOTH for stream in (False, True)]
            asked += [(path, {"model": "small", **body}, False) for path, body in WHOLE]
            for path, body, stream in asked:
                sent = {**body, "stream": True} if stream else body
                if path == "/v1/messages":  # which always uses the cache: so that it finds the same each time
                    await direct(under, urls[0], path, sent)
                status, raw, kind = await direct(under, urls[0], path, sent)
                through, said, headers = await under.post(path, sent)
                assert (through, headers["Content-Type"]) == (status, kind), (path, body, said)
                assert read(said, stream and status == 200) == read(raw, stream and status == 200), (path, body)
            assert not under.places.running and len(under.log.rows) == len(asked)

    run(test())


def test_vectors_equal_those_taken_directly(urls: tuple[str, str]) -> None:
    async def test() -> None:
        async with before(urls[1]) as under:
            for path in ("/v1/embeddings", "/embeddings", "/embedding"):
                body = {"model": "small", "input": ["hi", "there"], "content": "hi"}
                status, raw, _ = await direct(under, urls[1], path, body)
                assert (await under.post(path, body))[:2] == (status, raw)
            assert under.log.rows[0].prompt_tokens > 0

    run(test())


def test_counts_are_those_that_llama_server_says(urls: tuple[str, str]) -> None:
    async def test() -> None:
        async with before(urls[0]) as under:
            _, raw, _ = await under.post("/v1/chat/completions", {**FIXED, "messages": HI})
            usage = json.loads(raw)["usage"]
            for body in ({"messages": HI}, {"messages": HI, "stream": True}):
                await under.post("/v1/chat/completions", {**FIXED, **body})
            counts = [(row.prompt_tokens, row.completion_tokens, row.cached_tokens) for row in under.log.rows]
            assert counts == [(usage["prompt_tokens"], usage["completion_tokens"], 0)] * 3

    run(test())


def test_the_slot_and_the_cache_are_those_that_the_gateway_sets(urls: tuple[str, str]) -> None:
    async def test() -> None:
        async with before(urls[0]) as under:
            under.places.slot = 1
            body = {"model": "small", "prompt": "one two three four five six", "n_predict": 1, "id_slot": 0}
            first, second = [json.loads((await under.post("/completion", body))[1]) for _ in range(2)]
            assert first["id_slot"] == second["id_slot"] == 1
            assert second["timings"]["cache_n"] > 0
            under.places.cache = False
            assert json.loads((await under.post("/completion", body))[1])["timings"]["cache_n"] == 0

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_that_leaves_frees_its_slot_while_another_one_goes_on(urls: tuple[str, str], stream: bool) -> None:
    """Of an unstreamed request llama-server itself would not hear it while another one produces."""

    async def test() -> None:
        async with before(urls[0]) as under, aiohttp.ClientSession() as session:
            endless = {**FIXED, "messages": HI, "ignore_eos": True, "max_tokens": 1_000_000}

            async def busy() -> int:
                async with session.get(urls[0] + "/slots") as response:
                    return sum(slot["is_processing"] for slot in await response.json())

            async def again() -> None:
                """The other caller, who asks on and on."""
                while True:
                    await under.post("/v1/chat/completions", {**endless, "stream": True})

            other = asyncio.create_task(again())
            while await busy() < 1:
                await asyncio.sleep(0.01)
            connection = await under.connection("/v1/chat/completions", {**endless, "stream": stream})
            while await busy() < 2:
                await asyncio.sleep(0.01)
            reset(connection)
            await until(lambda: any(row.status_code == 499 for row in under.log.rows))
            while await busy() > 1:
                await asyncio.sleep(0.01)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)

    run(test())


def test_openais_and_anthropics_own_clients_work_through_it(urls: tuple[str, str]) -> None:
    async def test() -> None:
        async with before(urls[0]) as under:
            async with openai.AsyncOpenAI(base_url=under.url + "/v1", api_key=KEY, max_retries=0) as client:
                whole = await client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hi"}], temperature=0)
                assert whole.choices[0].message.content and whole.model == "fast" and whole.usage
                pieces = await client.chat.completions.create(
                    model="fast", messages=[{"role": "user", "content": "hi"}], temperature=0, stream=True
                )
                texts = [piece.choices[0].delta.content or "" async for piece in pieces if piece.choices]
                assert "".join(texts) == whole.choices[0].message.content
                response = await client.responses.create(model="small", input="hi")
                assert response.output_text
                assert [model.id async for model in client.models.list()] == ["small", "fast", "large"]
                with pytest.raises(openai.NotFoundError, match="Did you mean"):
                    await client.chat.completions.create(model="smal", messages=[{"role": "user", "content": "hi"}])
                with pytest.raises(openai.AuthenticationError):
                    await client.with_options(api_key="sk-wrong").models.list()
            async with anthropic.AsyncAnthropic(base_url=under.url, api_key=KEY, max_retries=0) as claude:
                message = await claude.messages.create(model="small", max_tokens=20, messages=[{"role": "user", "content": "hi"}])
                assert message.content[0].type == "text" and message.usage.input_tokens
                async with claude.messages.stream(model="small", max_tokens=20, messages=[{"role": "user", "content": "hi"}]) as stream:
                    assert await stream.get_final_text() == message.content[0].text
                counted = await claude.messages.count_tokens(model="small", messages=[{"role": "user", "content": "hi"}])
                assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
                with pytest.raises(anthropic.NotFoundError):
                    await claude.messages.create(model="none", max_tokens=1, messages=[{"role": "user", "content": "hi"}])

    run(test())
