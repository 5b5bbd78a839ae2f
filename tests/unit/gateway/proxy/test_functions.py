"""OpenAI's `functions`, which llama-server does not know."""

import json
from typing import Any

import pytest

from tests.unit.gateway.proxy.gateway_under_test import DONE, USAGE, BackendUnderTest, chat, chunk, gateway, run, streaming

F = {"name": "f", "parameters": {"type": "object"}}
G = {"name": "g", "parameters": {"type": "object"}}
EVENTS = [
    chunk({"role": "assistant", "content": None}),
    chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
    chunk({}, finish_reason="tool_calls"),
]


def asked(body: dict[str, Any], *events: bytes, status: int = 200) -> tuple[bytes, Any]:
    """The answer, and what went up."""

    async def test() -> tuple[bytes, Any]:
        async with BackendUnderTest(streaming(*events)).serving() as backend, gateway(backend.url) as under:
            found, said, _ = await under.post("/v1/chat/completions", body)
            assert found == status, said
            return said, backend.asked[0].body if backend.asked else None

    return run(test())


def test_functions_go_up_as_tools_and_calls_come_back_as_functions() -> None:
    said, up = asked(chat(functions=[F, G], function_call="auto", temperature=0), *EVENTS, chunk(usage=USAGE), DONE)
    assert [tool["function"] for tool in up["tools"]] == [F, G]
    assert (up["tool_choice"], up["temperature"], up["parallel_tool_calls"]) == ("auto", 0, False)
    assert not up.keys() & {"functions", "function_call"}
    choice = json.loads(said)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"] == {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}


def test_a_stream_of_a_call_is_one_of_a_function_call() -> None:
    said, _ = asked(chat(functions=[F], stream=True), *EVENTS, DONE)
    events = said.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-2]]
    assert [choice["delta"].get("function_call") for choice in choices] == [None, {"name": "f"}, {"arguments": '{"a":1}'}, None]
    assert choices[-1]["finish_reason"] == "function_call"
    assert "tool_calls" not in said.decode().replace('"function_call"', "")


def test_a_named_function_is_the_only_one_that_is_offered() -> None:
    _, up = asked(chat(functions=[F, G], function_call={"name": "g"}), *EVENTS, chunk(usage=USAGE), DONE)
    assert ([tool["function"] for tool in up["tools"]], up["tool_choice"]) == ([G], "required")


def test_earlier_calls_and_their_results_go_up_as_tools() -> None:
    call = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "42"},
    ]
    _, up = asked(chat(functions=[F], messages=messages), *EVENTS, chunk(usage=USAGE), DONE)
    first, second, third = up["messages"]
    assert first == messages[0]
    assert second == {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    assert third == {"role": "tool", "content": "42", "tool_call_id": "call_1"}


@pytest.mark.parametrize(
    "body",
    [
        {"functions": [F], "tools": []},
        {"functions": "f"},
        {"functions": [3]},
        {"functions": [F], "function_call": {"name": "h"}},
        {"functions": [F], "function_call": "must"},
    ],
)
def test_functions_that_are_wrong_are_refused(body: dict[str, Any]) -> None:
    said, up = asked(chat(**body), status=400)
    assert up is None and json.loads(said)["error"]["param"] in ("functions", "function_call")
