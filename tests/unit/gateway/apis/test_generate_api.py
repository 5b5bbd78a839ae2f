"""`/generate`: fields, answers, events, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from paddock_gateway.contract import Row
from paddock_gateway.errors import Failure
from tests.unit.gateway.apis.stubs import ANN, Silence, Stage, served, until


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def answer(stage: Stage, body: Any, headers: dict[str, str] = ANN, path: str = "/generate") -> tuple[int, Mapping[str, str], str]:
    async def go() -> tuple[int, Mapping[str, str], str]:
        async with served(stage.parts) as client:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            async with client.post(path, data=data, headers=headers) as response:
                return response.status, response.headers, await response.text()

    return asyncio.run(go())


def test_without_a_stream_the_answer_is_text_and_counts() -> None:
    status, _, text = answer(Stage(), {"prompt": "What is 2+2?", "stream": False})
    assert status == 200
    assert json.loads(text) == {"text": "2+2 equals 4.", "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_a_stream_is_tokens_then_done_with_counts() -> None:
    status, headers, text = answer(Stage(), {"prompt": "What is 2+2?"}, ANN | {"X-Request-Id": "r-1"})
    assert (status, headers["Content-Type"], headers["X-Accel-Buffering"]) == (200, "text/event-stream", "no")
    assert headers["X-Request-Id"] == "r-1"
    assert events(text) == [
        ("token", {"token": "2+2 ", "text": "2+2 "}),
        ("token", {"token": "equals 4.", "text": "equals 4."}),
        ("done", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "finish_reason": "stop"}),
    ]


def test_what_is_left_out_has_the_defaults_and_the_rest_goes_up() -> None:
    stage = Stage()
    answer(stage, {"prompt": "Hello"})
    answer(stage, {"prompt": "Hello", "system": "Be brief", "max_tokens": 7, "temperature": 0, "top_p": 1, "top_k": 1, "stop": ["\n"]})
    least, most = stage.upstream.asked
    assert least["messages"] == [{"role": "user", "content": "Hello"}]
    assert (least["model"], least["max_tokens"], least["temperature"], least["top_p"], least["top_k"]) == ("qwen2.5:3b", 160, 0.7, 0.9, 40)
    assert "stop" not in least and least["stream"] is True
    assert most["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (most["max_tokens"], most["temperature"], most["top_p"], most["top_k"], list(most["stop"])) == (7, 0, 1, 1, ["\n"])
    assert stage.upstream.logged == ["/generate", "/generate"]


@pytest.mark.parametrize(
    ("body", "where", "kind"),
    [
        ({}, ["body", "prompt"], "missing"),
        ({"prompt": ""}, ["body", "prompt"], "string_too_short"),
        ({"prompt": "a" * 8193}, ["body", "prompt"], "string_too_long"),
        ({"prompt": 5}, ["body", "prompt"], "string_type"),
        ({"prompt": "a", "system": "a" * 4097}, ["body", "system"], "string_too_long"),
        ({"prompt": "a", "max_tokens": 0}, ["body", "max_tokens"], "greater_than_equal"),
        ({"prompt": "a", "max_tokens": 2049}, ["body", "max_tokens"], "less_than_equal"),
        ({"prompt": "a", "max_tokens": "many"}, ["body", "max_tokens"], "int_type"),
        ({"prompt": "a", "temperature": 2.1}, ["body", "temperature"], "less_than_equal"),
        ({"prompt": "a", "top_p": -0.1}, ["body", "top_p"], "greater_than_equal"),
        ({"prompt": "a", "top_k": 101}, ["body", "top_k"], "less_than_equal"),
        ({"prompt": "a", "stop": ["a"] * 5}, ["body", "stop"], "too_long"),
        ({"prompt": "a", "stop": ["a", 5]}, ["body", "stop", 1], "string_type"),
        ({"prompt": "a", "stream": "perhaps"}, ["body", "stream"], "bool_type"),
        ([], ["body"], "model_attributes_type"),
        (b"", ["body"], "missing"),
        (b'{"prompt": *}', ["body", 11], "json_invalid"),
        (b'{"prompt": "\xff"}', ["body", 15], "json_invalid"),
        (b'{"prompt": "a", "more": ' + b"[" * 5000, ["body", 5024], "json_invalid"),
    ],
)
def test_what_does_not_fit_is_told_as_fastapi_tells_it(body: Any, where: list[str | int], kind: str) -> None:
    stage = Stage()
    status, _, text = answer(stage, body)
    (told,) = json.loads(text)["detail"]
    assert (status, told["loc"], told["type"]) == (422, where, kind)
    assert told["msg"]
    assert stage.upstream.asked == []


def test_the_longest_prompts_fit_however_they_are_written() -> None:
    stage = Stage()
    body = {"prompt": "\N{OWL}" * 8192, "system": "\N{OWL}" * 4096, "stream": False}
    assert len(json.dumps(body)) > 140_000
    assert answer(stage, body)[0] == 200
    assert [len(message["content"]) for message in stage.upstream.asked[0]["messages"]] == [4096, 8192]


def test_a_body_over_the_bound_is_refused_whether_it_says_its_length_or_not() -> None:
    async def pieces() -> Any:
        for _ in range(161):
            yield b" " * 1024

    async def go() -> list[int]:
        async with served(Stage().parts) as client:
            return [
                (await client.post("/generate", data=data, headers=ANN)).status
                for data in (json.dumps({"prompt": "a", "more": "b" * 170_000}).encode(), pieces())
            ]

    assert asyncio.run(go()) == [413, 413]


@pytest.mark.parametrize("path", ["/generate", "/benchmark"])
def test_a_body_that_cannot_be_unpacked_is_the_callers_fault(path: str) -> None:
    status, _, text = answer(Stage(), b"no gzip", {**ANN, "Content-Encoding": "gzip"}, path)
    assert status == 400
    assert "cannot be read" in json.loads(text)["detail"]


def test_without_a_key_or_with_an_unknown_one_nothing_is_generated() -> None:
    for headers in ({}, {"X-API-Key": "sk-nobody"}):
        stage = Stage()
        status, got, text = answer(stage, {"prompt": "a"}, headers)
        assert (status, got["WWW-Authenticate"]) == (401, "Bearer")
        assert isinstance(json.loads(text)["detail"], str)
        assert stage.upstream.asked == []


def test_a_key_in_the_address_is_refused() -> None:
    assert answer(Stage(), {"prompt": "a"}, path="/generate?api_key=sk-ann")[0] == 400


def test_a_key_as_bearer_is_as_good() -> None:
    assert answer(Stage(), {"prompt": "a"}, {"Authorization": "bearer sk-ann"})[0] == 200


def test_a_refusal_before_the_first_token_has_its_own_status() -> None:
    for stream in (True, False):
        stage = Stage()
        stage.upstream.tokens = ()
        stage.upstream.chunks = refusing  # type: ignore[method-assign]
        status, headers, text = answer(stage, {"prompt": "a", "stream": stream})
        assert (status, headers["Retry-After"]) == (503, "7")
        assert headers["X-Request-Id"]
        assert json.loads(text) == {"detail": "No back end is left."}


async def refusing(*args: Any, **more: Any) -> Any:
    raise Failure(503, "No back end is left.", retry_after_s=7)
    yield


def test_a_stream_that_dies_is_told_as_an_error() -> None:
    stage = Stage()
    stage.upstream.tokens = ("Once", Failure(502, "The back end went away."))
    status, _, text = answer(stage, {"prompt": "a"})
    assert status == 200
    assert events(text)[0][0] == "token"
    assert events(text)[1:] == [("error", {"error": "The back end went away.", "detail": "The back end went away."})]
    assert stage.upstream.open == 0


def test_a_stream_with_nothing_to_say_says_so() -> None:
    async def go() -> str:
        stage = Stage(heartbeat_s=0.01)
        gate = asyncio.Event()
        stage.upstream.tokens = (gate, "at last")
        async with served(stage.parts) as client, client.post("/generate", json={"prompt": "a"}, headers=ANN) as response:
            await response.content.readuntil(b": waiting\n\n")
            gate.set()
            return await response.text()

    assert [name for name, _ in events(asyncio.run(go()))] == ["token", "done"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_request(stream: bool) -> None:
    async def go() -> None:
        stage = Stage()
        stage.upstream.tokens = (asyncio.Event(),)
        async with served(stage.parts) as client:
            asking = asyncio.ensure_future(client.post("/generate", json={"prompt": "a", "stream": stream}, headers=ANN))
            await until(lambda: stage.upstream.open)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await client.session.close()
            await until(lambda: not stage.upstream.open)

    asyncio.run(go())


def test_without_the_small_hosts_settings_its_routes_are_not_there() -> None:
    assert answer(Stage(pi=None), {"prompt": "a"})[0] == 404


class Kept(Silence):
    """A RequestLog."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)


@pytest.mark.parametrize("path", ["/generate", "/benchmark"])
def test_what_is_refused_before_a_back_end_is_asked_has_a_row_too(path: str) -> None:
    log = Kept()
    stage = Stage(log=log)
    answer(stage, {"prompt": "a"}, {}, path)
    answer(stage, {"prompt": ""}, path=path)
    assert [(row.path, row.username, row.status_code) for row in log.rows] == [(path, "", 401), (path, "ann", 422)]
    assert all(row.request_id and row.backend == "" for row in log.rows)
