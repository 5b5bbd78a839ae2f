"""What goes up is what came, and what comes back is what llama-server answers: each route, many parameters, as a stream and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.gateway.asking import Answer, ask
from tests.gateway.conftest import Llama
from tests.gateway.process import Gateway, key_of, running
from tests.gateway.recorder import Recorder, Seen, recording
from tests.share import spread

HI = [{"role": "user", "content": "hi there"}]
FIXED: dict[str, Any] = {"temperature": 0, "seed": 1, "cache_prompt": False}
CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}, "days": {"type": "integer"}}, "required": ["city", "days"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY, "strict": True}}
CALLED = [
    *HI,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]

CHATS: dict[str, dict[str, Any]] = {
    **{f"{most} tokens": {"max_tokens": most} for most in (3, 5, 60)},
    "max_completion_tokens": {"max_completion_tokens": 4},
    "two answers": {"max_tokens": 12, "n": 2},
    "usage": {"max_tokens": 6, "stream_options": {"include_usage": True}},
    "tools": {"max_tokens": 60, "tools": TOOLS},
    "a tool that has to be called": {"max_tokens": 60, "tools": TOOLS, "tool_choice": "required"},
    "no tool": {"max_tokens": 60, "tools": TOOLS, "tool_choice": "none"},
    "a tool's result": {"max_tokens": 60, "tools": TOOLS, "messages": CALLED},
    "no thinking": {"max_tokens": 20, "chat_template_kwargs": {"enable_thinking": False}},
    "thinking as text": {"max_tokens": 20, "reasoning_format": "none"},
    "stop": {"max_tokens": 60, "stop": ["tiny", "me"]},
    "logprobs": {"max_tokens": 5, "logprobs": True, "top_logprobs": 2},
    "JSON": {"max_tokens": 40, "response_format": {"type": "json_object"}},
    "a schema": {"max_tokens": 60, "response_format": SCHEMA},
    "a grammar": {"max_tokens": 9, "grammar": 'root ::= "yes" | "no"'},
    "samplers": {"max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "typical_p": 0.9, "repeat_penalty": 1.1},
    "penalties": {"max_tokens": 20, "presence_penalty": 1.5, "frequency_penalty": 1.5, "logit_bias": {"5": 3}},
    "verbose": {"max_tokens": 3, "verbose": True},
    "timings": {"max_tokens": 3, "timings_per_token": True},
    "progress": {"max_tokens": 3, "return_progress": True},
    "unknown members": {"max_tokens": 3, "user": "ann", "metadata": {"a": None}, "store": False},
    "messages that are none": {"messages": "x"},
    "no messages": {"messages": None},
    "a broken grammar": {"grammar": "root ::= ("},
    "a prompt beyond the context": {"messages": [{"role": "user", "content": "x " * 20_000}]},
}

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "completion": ("/v1/completions", {"prompt": "hello", "max_tokens": 9}),
    "completions of two prompts": ("/v1/completions", {"prompt": ["hello", "you"], "max_tokens": 9}),
    "two completions": ("/v1/completions", {"prompt": "hello", "max_tokens": 9, "n": 2}),
    "completion with logprobs": ("/v1/completions", {"prompt": "hello", "max_tokens": 9, "logprobs": 2}),
    "completion of tokens": ("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 9, "echo": True}),
    "completion of nothing": ("/v1/completions", {"prompt": {}}),
    "own format": ("/completion", {"prompt": "hello", "n_predict": 9}),
    "own format, two prompts": ("/completion", {"prompt": ["hello", "you"], "n_predict": 9}),
    "own format with tokens": ("/completion", {"prompt": "hello", "n_predict": 5, "return_tokens": True}),
    "own format, some fields": ("/completions", {"prompt": "hello", "n_predict": 5, "response_fields": ["content", "timings"]}),
    "infill": ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    "response": ("/v1/responses", {"input": "hi", "max_output_tokens": 9}),
    "response of items": ("/v1/responses", {"input": HI, "instructions": "Be kind.", "max_output_tokens": 60}),
    "response with tools": (
        "/v1/responses",
        {"input": HI, "tools": [{"type": "function", "name": "weather", "parameters": CITY, "strict": True}], "max_output_tokens": 60},
    ),
    "response after another": ("/v1/responses", {"input": "hi", "previous_response_id": "resp_1"}),
    "message": ("/v1/messages", {"messages": HI, "max_tokens": 60}),
    "message with system": ("/v1/messages", {"messages": HI, "max_tokens": 3, "system": "Be kind."}),
    "message with stop": ("/v1/messages", {"messages": HI, "max_tokens": 60, "stop_sequences": ["tiny", "me"]}),
    "message with tools": ("/v1/messages", {"messages": HI, "max_tokens": 60, "tools": [{"name": "weather", "input_schema": CITY}]}),
}

WHOLE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions/input_tokens": {"messages": HI},
    "/v1/responses/input_tokens": {"input": "hi"},
    "/v1/messages/count_tokens": {"messages": HI},
    "/tokenize": {"content": "hi", "with_pieces": True},
    "/detokenize": {"tokens": [5, 6]},
    "/apply-template": {"messages": HI},
    "/v1/rerank": {"query": "hi", "documents": ["a"]},
    "/v1/embeddings": {"input": ["hi", "there"]},
    "/embedding": {"content": "hi"},
}
"""Routes without a stream."""

SPEAKERS = ("one", "calling")

SET_BY_THE_GATEWAY = {"model", "id_slot", "cache_prompt", "return_progress"}
"""The last so that llama-server has something to say while it reads a prompt, and hears that its reader left; the caller sees none of
it."""
ASKED_AS_A_STREAM = {"stream", "stream_options"}
"""Of an answer that is put together from a stream, which llama-server gives up when its reader goes."""


@dataclass
class Between:
    """The gateway before `server`, and what went up to it."""

    gateway: Gateway
    server: str
    model: str
    """Its id at the server."""
    up: Recorder

    def through(self, path: str, body: Any, **headers: str) -> Answer:
        return ask(self.gateway.url, path, body, key=key_of("ann"), **headers)

    def direct(self, path: str, body: Any) -> Answer:
        return ask(self.server, path, body)

    def sent(self) -> Seen:
        """The last that went up."""
        return [each for each in self.up.seen if each.method == "POST"][-1]


@pytest.fixture(scope="module", params=["one", "calling", "embed"])
def between(llama: Llama, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """Before a server that speaks, before one that calls tools, and before one that makes vectors."""
    model = "tiny" if request.param == "one" else request.param
    with recording(llama.urls[request.param]) as up:
        configuration = {
            "backends": {"only": {"url": up.url}},
            "models": {model: {"targets": [{"backend": "only", "model": model}], "aliases": ["default"]}},
        }
        with running(tmp_path_factory.mktemp(request.param), configuration, {"ann": {}}) as gateway:
            yield Between(gateway, llama.urls[request.param], model, up)


def assert_unchanged(between: Between, path: str, body: dict[str, Any]) -> None:
    body = {"model": between.model, **body}
    if path == "/v1/messages":  # where the cache is always used: both find all of it there
        between.direct(path, body)
        between.through(path, body)
    direct, through = between.direct(path, body), between.through(path, body)
    assert (through.status, through.headers["Content-Type"]) == (direct.status, direct.headers["Content-Type"]), through.raw
    assert in_order(through) == in_order(direct)
    if path == "/v1/messages":  # goes up as a chat completion: see test_convert.py
        return
    sent = between.sent()
    assert sent.path == path
    ours = SET_BY_THE_GATEWAY - ({"return_progress"} & body.keys()) | (set() if body.get("stream") else ASKED_AS_A_STREAM)
    kept = [(name, value) for name, value in sent.body.items() if name not in ours]
    assert kept == [(name, value) for name, value in body.items() if name not in ours]


def in_order(answer: Answer) -> list[str]:
    """Events of several answers in one stream come in any order, and each answer but the first begins with `null`."""
    lines = [line for line in answer.lines() if line != "data: null"]
    return sorted(lines, key=which) if any(which(line) == 1 for line in lines) else lines


def which(line: str) -> int:
    """Of which answer an event is; one that is of none comes last."""
    data = line.removeprefix("data: ")
    said = json.loads(data) if data.startswith("{") else {}
    if choices := said.get("choices"):
        return int(choices[0]["index"])
    return int(said["index"]) if "stop" in said else 1000


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("case", spread("chats unchanged", list(CHATS), 15))
@pytest.mark.parametrize("between", SPEAKERS, indirect=True)
def test_a_chat_is_as_llama_server_itself_answers_it(between: Between, case: str, stream: bool) -> None:
    more = {"stream": True} if stream else {}
    assert_unchanged(between, "/v1/chat/completions", {"messages": HI, **FIXED, **CHATS[case], **more})


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("case", spread("routes unchanged", list(OTHERS), 15))
@pytest.mark.parametrize("between", SPEAKERS, indirect=True)
def test_every_other_route_is_as_llama_server_itself_answers_it(between: Between, case: str, stream: bool) -> None:
    path, body = OTHERS[case]
    assert_unchanged(between, path, {**FIXED, **body, **({"stream": True} if stream else {})})


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize("between", ["one", "embed"], indirect=True)
def test_what_is_never_a_stream_is_as_llama_server_itself_answers_it(between: Between, path: str) -> None:
    assert_unchanged(between, path, WHOLE[path])


@pytest.mark.parametrize("between", ["one"], indirect=True)
def test_members_go_up_byte_for_byte_and_in_their_order(between: Between) -> None:
    members = (
        b'"messages" : [ {"role":"user", "content":"\\u00e9 \\ud83d\\ude00 \xc3\xa9 \\/"} ]',
        b'"temperature":0.10',
        b'"seed" :1',
        b'"top_p":1E0',
        b'"own":{"b":1,"a":[ ],"b":12345678901234567890123}',
        b'"max_tokens":3',
    )
    between.through("/v1/chat/completions", b'{ "model":"default",\n' + b" ,\n".join(members) + b"\n}")
    places = [between.sent().raw.find(b":".join(each.strip() for each in member.split(b":", 1))) for member in members]
    assert -1 not in places and places == sorted(places), between.sent().raw
    assert between.sent().body["model"] == "tiny"


@pytest.mark.parametrize("between", ["one"], indirect=True)
def test_headers_go_up_but_for_the_key_and_what_is_of_the_connection(between: Between) -> None:
    headers = {"X-Own": "1", "Accept": "text/plain", "User-Agent": "own/1", "Anthropic-Version": "2023-06-01", "X-Conversation-Id": "c1"}
    between.through("/v1/chat/completions", {"model": "tiny", "messages": HI, "max_tokens": 1}, Cookie="a=b", **headers)
    sent = between.sent().headers
    assert [name for name in headers if name not in sent] == ["X-Conversation-Id"]
    assert all(sent[name] == value for name, value in headers.items() if name in sent)
    assert not {"Authorization", "Cookie", "X-Api-Key"} & set(sent)
    assert key_of("ann") not in str(sent)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("between", ["calling"], indirect=True)
def test_an_alias_is_what_the_answer_names_and_nothing_else_differs(between: Between, stream: bool) -> None:
    body = {**FIXED, "messages": HI, "max_tokens": 20, "stream": stream}
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
        said = {**body, "input": "hi"} if path == "/v1/responses" else body
        by_id, by_alias = (between.through(path, {"model": name, **said}) for name in (between.model, "default"))
        assert by_alias.lines() == [line.replace(f'"model": "{between.model}"', '"model": "default"') for line in by_id.lines()]
        assert b'"default"' in by_alias.raw


@pytest.mark.parametrize("between", ["pi"], indirect=True)
def test_functions_go_up_as_tools_and_their_call_comes_back_as_a_function(between: Between) -> None:
    function = {"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}
    offered = [{"type": "function", "function": function}]
    body = {"model": "default", "messages": HI, "temperature": 0, "max_tokens": 60}
    tools = between.through("/v1/chat/completions", {**body, "tools": offered, "tool_choice": "auto"}).body["choices"][0]
    choice = between.through("/v1/chat/completions", {**body, "functions": [function], "function_call": "auto"}).body["choices"][0]
    sent = between.sent().body
    assert (sent["tools"], sent["tool_choice"]) == (offered, "auto") and not {"functions", "function_call"} & sent.keys()
    call = choice["message"]["function_call"]
    assert choice["finish_reason"] == "function_call" and call == tools["message"]["tool_calls"][0]["function"]
    streamed = between.through("/v1/chat/completions", {**body, "functions": [function], "stream": True}).events
    pieces = [event["choices"][0]["delta"].get("function_call", {}) for event in streamed if event.get("choices")]
    assert {name: "".join(piece.get(name, "") for piece in pieces) for name in ("name", "arguments")} == call


@pytest.mark.parametrize("between", ["calling"], indirect=True)
def test_a_function_that_has_to_be_called_and_the_result_of_one_go_up_as_a_tools(between: Between) -> None:
    functions = [{"name": name, "parameters": CITY} for name in ("weather", "clock")]
    call = {"name": "weather", "arguments": "{}"}
    told = [*HI, {"role": "assistant", "content": None, "function_call": call}, {"role": "function", "name": "weather", "content": "sunny"}]
    body = {"model": "default", "messages": told, "max_tokens": 3, "functions": functions, "function_call": {"name": "weather"}}
    assert between.through("/v1/chat/completions", body).status == 200
    sent = between.sent().body
    assert sent["tools"] == TOOLS and sent["tool_choice"] == "required"
    assistant, result = sent["messages"][1:]
    assert assistant["tool_calls"][0]["function"] == call
    assert result == {"role": "tool", "content": "sunny", "tool_call_id": assistant["tool_calls"][0]["id"]}
