"""The documents of a proxy with a key for each user, and of one before many servers: their requests get the documented answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Llama
from tests.gateway.crowd import ask_all
from tests.gateway.documented import CHATS, KEY_GENERATE, LISTS, Answer, curl, logged, post, sampled
from tests.gateway.process import Gateway, back_end, free_port, running

SAID = " Hello from a tiny model: this host answers."
MODEL = "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"
CALLING = "functionary-small-v2.5.Q4_0.gguf"
COLUMNS = {"username", "path", "status_code", "duration_ms", "request_bytes", "response_bytes", "created_at"}
MASTER = "sk-master-of-a-test"


@dataclass
class Proxy:
    gateway: Gateway
    directory: Path

    def user(self, name: str, *more: str) -> str:
        """The key that the document's command makes."""
        done = self.gateway.command("create-user", "--username", name, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[0]

    def curl(self, command: str, key: str) -> Answer:
        return curl(command, self.gateway.port, self.directory, key)

    def chat(self, key: str, model: str = MODEL, **more: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "Say hello in one sentence."}], **more}
        return post("/v1/chat/completions", body, self.gateway.port, self.directory, key)

    def message(self, key: str, model: str = MODEL, **more: Any) -> Any:
        answer = self.chat(key, model, **more)
        assert answer.status == 200, answer.text
        return answer.json["choices"][0]["message"]

    def rows(self, user: str, number: int) -> list[dict[str, Any]]:
        return logged(self.directory, number, username=user)


@pytest.fixture(scope="module")
def proxy(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("proxy")
    gateway = Gateway(
        directory,
        {
            "backends": {name: {"url": llama.urls[name]} for name in ("one", "calling")},
            "models": {
                MODEL: {"targets": [{"backend": "one", "model": "tiny"}]},
                CALLING: {"targets": [{"backend": "calling", "model": "calling"}]},
            },
            "default_limits": {"requests": 60, "window_s": 60},
        },
    )
    gateway.write()
    made = gateway.command("init-db")
    assert made.returncode == 0, made.stderr
    with running(directory, gateway.configuration) as gateway:
        yield Proxy(gateway, directory)


def test_a_user_who_was_made_beside_it_lists_and_chats(proxy: Proxy) -> None:
    alice = proxy.user("alice")
    for command in LISTS:
        answer = proxy.curl(command, alice)
        assert (answer.status, answer.json["object"], [model["id"] for model in answer.json["data"]]) == (200, "list", [MODEL, CALLING])
    for command in CHATS:
        answer = proxy.curl(command, alice)
        assert (answer.status, answer.json["object"], answer.json["model"]) == (200, "chat.completion", MODEL)
        assert answer.json["choices"][0]["message"] == {"role": "assistant", "content": SAID}
        assert answer.json["usage"]["completion_tokens"] == 9
        refused = proxy.curl(command, "sk-of-nobody")
        assert (refused.status, refused.json["error"]["type"]) == (401, "authentication_error")
    assert proxy.curl(LISTS[0], "").status == 401


def test_each_request_has_a_row_with_its_times_and_bytes(proxy: Proxy) -> None:
    bob = proxy.user("bob")
    answer = proxy.curl(CHATS[0], bob)
    proxy.curl(LISTS[0], bob)
    rows = {row["path"]: row for row in proxy.rows("bob", 2)}
    assert all(set(row) >= COLUMNS for row in rows.values())
    chat = rows["/v1/chat/completions"]
    assert (chat["status_code"], chat["model"], chat["response_bytes"]) == (200, MODEL, len(answer.text.encode()))
    assert chat["duration_ms"] > 0 and len(MODEL) < chat["request_bytes"] < 200 and chat["created_at"]
    assert rows["/v1/models"]["status_code"] == 200
    whole = b"".join(file.read_bytes() for file in proxy.directory.glob("gateway.db*"))
    assert b"Say hello" not in whole and bob.encode() not in whole


def test_the_sixty_first_request_within_a_minute_waits(proxy: Proxy) -> None:
    carol = proxy.user("carol")
    line = CHATS[1].strip()
    answer = proxy.curl(
        f"""for _ in $(seq 61); do {line} -w '\\n%{{http_code}}\\n' -D {proxy.directory}/headers -o /dev/null; done""", carol
    )
    assert Counter(answer.text.split()) == {"200": 60, "429": 1} and answer.text.split()[-1] == "429"
    assert answer.status == 429 and 1 <= int(answer.headers["retry-after"]) <= 60
    assert proxy.chat(proxy.user("dora")).status == 200, "another user's limit is another's"


SAMPLERS: dict[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.5,
    "top_k": 7,
    "min_p": 0.125,
    "typical_p": 0.75,
    "max_tokens": 5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "repeat_penalty": 1.5,
    "seed": 42,
}


def test_every_sampler_of_the_table_reaches_the_server(proxy: Proxy, llama: Llama) -> None:
    assert proxy.chat(proxy.user("erin"), **SAMPLERS).status == 200
    said = sampled(llama.urls["one"])
    assert {name: said[name] for name in SAMPLERS} == SAMPLERS


FUNCTION = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
}
CALL = {"name": "weather", "arguments": '{"city": "Paris", "days": 2}'}
SCHEMA = {"type": "object", "properties": {"well": {"type": "boolean"}}, "required": ["well"], "additionalProperties": False}


def test_every_other_parameter_of_the_table_acts(proxy: Proxy) -> None:
    key = proxy.user("frank")
    assert proxy.message(key, stop=" model")["content"] == proxy.message(key, stop=["x", " model"])["content"] == " Hello from a tiny"
    known = proxy.chat(key, logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
    assert known[0]["token"] == " Hello" and len(known[0]["top_logprobs"]) == 2
    tiny = str(known[3]["id"])
    assert "tiny" not in proxy.message(key, logit_bias={tiny: -100}, max_tokens=8)["content"]
    written = proxy.message(key, CALLING, response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}})
    assert json.loads(written["content"])["well"] in (True, False)
    json.loads(proxy.message(key, CALLING, response_format={"type": "json_object"}, max_tokens=200)["content"])
    called = proxy.message(key, CALLING, tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto")
    assert called["tool_calls"][0]["function"] == CALL
    assert proxy.message(key, CALLING, functions=[FUNCTION], function_call="auto")["function_call"] == CALL
    assert "function_call" not in proxy.message(key, CALLING, functions=[FUNCTION], function_call="none")
    streamed = proxy.chat(key, stream=True)
    lines = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert streamed.headers["content-type"] == "text/event-stream" and lines[-1] == "[DONE]"
    deltas = [choice["delta"].get("content") or "" for line in lines[:-1] for choice in json.loads(line)["choices"]]
    assert "".join(deltas) == SAID


SHARED: dict[str, Any] = {
    "heartcode-chat-sfw": ("one", "tiny", ["heartcode-default", "heartcode-sfw", "heartcode-chat"], {"requests": 35, "parallel": 7}),
    "heartcode-chat-nsfw": ("two", "tiny", ["heartcode-nsfw"], {"requests": 45, "parallel": 7}),
    "heartcode-embed": ("embed", "embed", [], {"parallel": 7}),
    "heartcode-image": ("image", "image", [], {"parallel": 7}),
}
"""By its name a model's server, its name there, its other names and its limits."""


def shared(urls: dict[str, str], directory: Path) -> dict[str, Any]:
    """The settings of a gateway before many servers. That for images is none of llama.cpp, and away."""
    (directory / "master").write_text(MASTER)
    return {
        "backends": {"image": {"url": f"http://127.0.0.1:{free_port()}"}, **{name: {"url": url} for name, url in urls.items()}},
        "models": {
            name: {"targets": [{"backend": backend, "model": there}], "aliases": aliases, "limits": {"window_s": 60, **limits}}
            for name, (backend, there, aliases, limits) in SHARED.items()
        },
        "global_limits": {"parallel": 14},
        "health": {"every_s": 15, "failures": 2, "cooldown_s": 60, "retries": 2},
        "master_key_file": str(directory / "master"),
    }


def test_a_key_of_the_master_key_is_for_each_model_by_each_name(llama: Llama, tmp_path: Path) -> None:
    with running(tmp_path, shared(llama.urls, tmp_path)) as gateway:
        proxy = Proxy(gateway, tmp_path)
        answer = proxy.curl(KEY_GENERATE, MASTER)
        made = answer.json
        assert (answer.status, made["key"][:3], made["key_alias"], made["models"]) == (200, "sk-", "test", list(SHARED))
        assert made["expires"] is None and made["key"] not in made["key_name"] and made["spend"] == 0
        assert [proxy.curl(KEY_GENERATE, key).status for key in ("sk-of-nobody", made["key"])] == [401, 403]
        again = proxy.curl(KEY_GENERATE, MASTER)
        assert (again.status, again.json["error"]["code"]) == (400, "400") and "already exists" in again.json["error"]["message"]
        names = [name for model, (_, _, aliases, _) in SHARED.items() for name in (model, *aliases)]
        listed = proxy.curl("curl http://localhost:4000/v1/models -H 'Authorization: Bearer <USER_KEY>'", made["key"])
        assert [model["id"] for model in listed.json["data"]] == names
        for name in names[:6]:
            said = proxy.chat(made["key"], name)
            assert (said.json["model"], said.json["choices"][0]["message"]["content"]) == (name, SAID)
        shown = proxy.curl("curl http://localhost:4000/model/info -H 'Authorization: Bearer <USER_KEY>'", made["key"]).json["data"]
        assert {model["model_name"]: model["model_info"]["max_tokens"] for model in shown} == {
            **dict.fromkeys(SHARED, None),
            **dict.fromkeys(list(SHARED)[:2], 4096),
            "heartcode-embed": 2048,
        }
        body = {"model": "heartcode-embed", "input": ["Hello", "host"]}
        vectors = post("/v1/embeddings", body, gateway.port, tmp_path, made["key"]).json["data"]
        assert [len(vector["embedding"]) for vector in vectors] == [32, 32]
        away = proxy.chat(made["key"], "heartcode-image")
        assert away.status in (502, 503) and "heartcode-image" in away.json["error"]["message"]


def test_the_limits_of_models_and_of_all_together_hold(tmp_path: Path) -> None:
    first, second = "heartcode-chat-sfw", "heartcode-chat-nsfw"
    with back_end(32, "--token-ms", "20") as url:
        urls = dict.fromkeys(("one", "two", "embed"), url)
        with running(tmp_path, shared(urls, tmp_path), {"ann": {}}) as gateway:

            async def at_once(numbers: dict[str, int]) -> list[Counter[int]]:
                asked = (ask_all(gateway.url, [("ann", 60)] * number, at_once=number, model=name) for name, number in numbers.items())
                return [said.all() for said in await asyncio.gather(*asked)]

            together = asyncio.run(at_once({first: 7, second: 7, "heartcode-embed": 1}))
            assert sum(together, Counter()) == Counter({200: 14, 429: 1})
            alone = asyncio.run(at_once({first: 8}))
            assert alone == [Counter({200: 7, 429: 1})]
            for name, left in ((first, 35 - together[0][200] - 7), (second, 45 - together[1][200])):
                said = asyncio.run(ask_all(gateway.url, [("ann", 1)] * (left + 1), at_once=1, model=name))
                assert said.all() == Counter({200: left, 429: 1}) and 1 <= said.retry_after[0] <= 60, "what was refused counts nothing"
