"""OpenAI's first way to call functions (`functions`, `function_call`, role `function`), which llama-server does not know: into tools, and
back in the answer. https://platform.openai.com/docs/api-reference/chat/create#chat-create-functions
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from paddock_gateway.errors import Failure, openai_error
from paddock_gateway.proxy.body import Body


def is_legacy(body: Body) -> bool:
    return "functions" in body or "function_call" in body


class Functions:
    """A Converter (paddock_gateway.convert.converter)."""

    def request(self, said: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Raises Failure where functions and tools come together, or are none."""
        body = dict(said)
        functions, call = body.pop("functions", None), body.pop("function_call", None)
        if body.get("tools") is not None or body.get("tool_choice") is not None:
            raise Failure(400, 'Send "functions" or "tools", not both.', "bad_field", param="functions")
        if functions is not None and (not isinstance(functions, list) or not all(isinstance(each, dict) for each in functions)):
            raise Failure(400, '"functions" is to be a list of objects.', "bad_field", param="functions")
        if functions:
            body["tools"] = [{"type": "function", "function": function} for function in functions]
            body["parallel_tool_calls"] = False
        if isinstance(call, dict):
            # llama-server knows no choice by name: what is offered is then that function alone
            named = [tool for tool in body.get("tools", ()) if tool["function"].get("name") == call.get("name")]
            if not named:
                raise Failure(
                    400, f'"function_call" names {call.get("name")!r}, which is none of "functions".', "bad_field", param="function_call"
                )
            body["tools"], body["tool_choice"] = named, "required"
        elif call is not None:
            if call not in ("auto", "none"):
                raise Failure(400, '"function_call" is to be "auto", "none" or an object with "name".', "bad_field", param="function_call")
            body["tool_choice"] = call
        if isinstance(body.get("messages"), list):
            body["messages"] = list(_messages(body["messages"]))
        return "/v1/chat/completions", body

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        for choice in answer.get("choices") or ():
            message = choice.get("message") or {}
            calls = message.pop("tool_calls", None)
            if calls:
                message["function_call"] = calls[0]["function"]
                message["content"] = message.get("content") or None
            _renamed(choice)
        return dict(answer)

    def stream(self) -> Deltas:
        return Deltas()


class Deltas:
    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            calls = delta.pop("tool_calls", None)
            if calls:
                first = [call for call in calls if call.get("index", 0) == 0]
                if not first:
                    return b""  # a second call, which the older form has no place for
                delta["function_call"] = first[0].get("function") or {}
            _renamed(choice)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def fail(self, failure: Failure) -> bytes:
        return b"data: " + orjson.dumps(openai_error(failure)) + b"\n\n"


def _renamed(choice: dict[str, Any]) -> None:
    if choice.get("finish_reason") == "tool_calls":
        choice["finish_reason"] = "function_call"


def _messages(messages: list[Any]) -> Iterator[Any]:
    """A call and its result are tied by an id that is made here: the older form goes by their order."""
    number = 0
    for message in messages:
        if not isinstance(message, dict):
            yield message
        elif message.get("role") == "assistant" and message.get("function_call"):
            number += 1
            kept = {name: value for name, value in message.items() if name != "function_call"}
            yield {**kept, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": message["function_call"]}]}
        elif message.get("role") == "function":
            kept = {name: value for name, value in message.items() if name != "name"}
            yield {**kept, "role": "tool", "tool_call_id": f"call_{number}"}
        else:
            yield message
