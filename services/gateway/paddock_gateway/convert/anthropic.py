"""Anthropic's messages as chat completions, in the way of llama-server 0.3.36, and their answers back.

The request follows `server_chat_convert_anthropic_to_oai` (tools/server/server-chat.cpp): fields and kinds of blocks that it does not know
are left out, null is as good as absent. Where a field has a wrong type, it goes on with a default or fails with status 500: here that is
a 400 that says where. The answer follows `server_task_result_cmpl_final::to_json_anthropic` (server-task.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from paddock_gateway.convert.anthropic_stream import STOP_REASONS, Stream
from paddock_gateway.convert.fields import an_object, array_in, boolean_in, number_in, object_in, string_in, whole_number_in, wrong
from paddock_gateway.errors import Failure

PATH = "/v1/chat/completions"

MAX_TOKENS = 4096
"""Where the request names none."""

BUDGET_TOKENS = 10000
"""For thinking that names none."""

BILLING = "x-anthropic-billing-header:"
STAMP = "cch="
STAMP_LENGTH = 5

TELLING: Mapping[str, Any] = {
    "stream_options": {"include_usage": True},
    "return_progress": True,
    "verbose": True,
    "response_fields": ["stopping_word"],
}
"""What an Anthropic answer tells and a chat completion only does when asked: tokens from the cache before the first word, and the word that
ended it. `response_fields` keeps the prompt out of `__verbose` (`to_json_non_oaicompat` in server-task.cpp)."""


class Messages:
    """`/v1/messages`: a paddock_gateway.convert.converter.Converter."""

    def request(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        return PATH, {**request(body), **TELLING}

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        return whole(answer)

    def stream(self) -> Stream:
        return Stream()


def request(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion that asks the same. It shares parts of `body`, and changes none. Raises Failure, 400."""
    messages: list[Mapping[str, Any]] = list(_system(body))
    if "messages" not in body:
        raise Failure(400, "'messages' is required", param="messages")
    if not isinstance(body["messages"], list):
        raise Failure(400, "Expected 'messages' to be an array", param="messages")
    for number, message in enumerate(body["messages"]):
        messages += _message(message, f"messages[{number}]")
    asked: dict[str, Any] = {"messages": messages, "max_tokens": MAX_TOKENS}
    if "model" in body:
        asked["model"] = body["model"]
    if (tools := array_in(body, "tools")) is not None:
        asked["tools"] = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    kind = string_in(object_in(body, "tool_choice"), "type", "tool_choice.")
    if kind == "auto":
        asked["tool_choice"] = "auto"
    elif kind in ("any", "tool"):
        asked["tool_choice"] = "required"
    if "stop_sequences" in body:
        asked["stop"] = _stop(body)
    for key in ("max_tokens", "top_k"):
        if key in body:
            asked[key] = whole_number_in(body, key)
    for key in ("temperature", "top_p"):
        if key in body:
            asked[key] = number_in(body, key)
    if "stream" in body:
        asked["stream"] = boolean_in(body, "stream")
    if "chat_template_kwargs" in body:
        object_in(body, "chat_template_kwargs")
        asked["chat_template_kwargs"] = body["chat_template_kwargs"]
    thinking = object_in(body, "thinking")
    if string_in(thinking, "type", "thinking.") == "enabled":
        budget = whole_number_in(thinking, "budget_tokens", "thinking.")
        asked["thinking_budget_tokens"] = BUDGET_TOKENS if budget is None else budget
    if user := string_in(object_in(body, "metadata"), "user_id", "metadata."):
        asked["__metadata_user_id"] = user
    return asked


def whole(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The message that a chat completion is. Raises Failure, 502, where it is none."""
    try:
        choice, usage = answer["choices"][0], answer["usage"]
        message, cached = choice["message"], usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        content: list[dict[str, Any]] = []
        if thinking := message.get("reasoning_content"):
            content.append({"type": "thinking", "thinking": thinking, "signature": ""})
        if text := message.get("content"):
            content.append({"type": "text", "text": text})
        content += map(_tool_use, message.get("tool_calls") or ())
        return {
            "id": answer["id"],
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": answer["model"],
            "stop_reason": STOP_REASONS[choice["finish_reason"]],
            "stop_sequence": answer.get("__verbose", {}).get("stopping_word") or None,
            "usage": {
                "cache_read_input_tokens": cached,
                "input_tokens": usage["prompt_tokens"] - cached,
                "output_tokens": usage["completion_tokens"],
            },
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise Failure(502, "The back end's answer is no chat completion.", "bad_answer") from error


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    try:
        arguments = orjson.loads(call["function"]["arguments"])
    except orjson.JSONDecodeError:
        arguments = {}  # cut off by max_tokens
    return {"type": "tool_use", "id": call.get("id", ""), "name": call["function"]["name"], "input": arguments}


def _system(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    system = body.get("system")
    if isinstance(system, str):
        yield {"role": "system", "content": _steady(system)}
    elif isinstance(system, list):
        texts = []
        for number, each in enumerate(system):
            at = f"system[{number}]"
            if string_in(an_object(each, at), "type", f"{at}.") == "text":
                texts.append(_steady(string_in(each, "text", f"{at}.")))
        yield {"role": "system", "content": "".join(texts)}
    elif system is not None:
        raise wrong(system, "a string or an array of text blocks", "system")


def _steady(text: str) -> str:
    """Claude Code's billing header without the stamp that is another one in each request, and would keep every prompt out of the cache:
    `normalize_anthropic_billing_header` in server-chat.cpp."""
    if not text.startswith(BILLING):
        return text
    begin = text.find(STAMP, len(BILLING)) + len(STAMP)
    end = begin + STAMP_LENGTH
    if begin < len(STAMP) or text[end : end + 1] != ";":
        return text
    return text[:begin] + "f" * STAMP_LENGTH + text[end:]


def _message(message: Any, at: str) -> Iterator[Mapping[str, Any]]:
    an_object(message, at)
    role = message.get("role")
    if role is None:
        raise Failure(400, f"{at}: Missing 'role' in message", param=f"{at}.role")
    if not isinstance(role, str):
        raise wrong(role, "a string", f"{at}.role")
    if "content" not in message:
        if role != "assistant":
            raise Failure(400, f"{at}: All non-assistant messages must contain 'content'", param=f"{at}.content")
        return
    content = message["content"]
    if content is None or isinstance(content, str):
        yield message
        return
    if not isinstance(content, list):
        raise Failure(400, f"{at}: Expected 'content' to be a string or an array", param=f"{at}.content")
    parts, calls, results, thinking = [], [], [], ""
    for number, block in enumerate(content):
        here = f"{at}.content[{number}]"
        kind, inside = string_in(an_object(block, here), "type", here + "."), here + "."
        if kind == "text":
            if not isinstance(block.get("text"), str):
                raise wrong(block.get("text"), "a string", f"{here}.text")
            parts.append(block)
        elif kind == "thinking":
            thinking += string_in(block, "thinking", inside)
        elif kind == "image":
            parts += _image(block, inside)
        elif kind == "tool_use":
            calls.append(_call(block, inside))
        elif kind == "tool_result":
            results.append(_result(block, inside))
    if parts or calls or thinking:
        said: dict[str, Any] = {"role": role, "content": parts or ""}
        if calls:
            said["tool_calls"] = calls
        if thinking:
            said["reasoning_content"] = thinking
        yield said
    yield from results


def _image(block: Mapping[str, Any], inside: str) -> Iterator[dict[str, Any]]:
    """Nothing where the source is of another kind than the two that llama-server knows."""
    source, at = object_in(block, "source", inside), f"{inside}source."
    kind = string_in(source, "type", at)
    if kind == "base64":
        media_type = string_in(source, "media_type", at, "image/jpeg")
        yield {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{string_in(source, 'data', at)}"}}
    elif kind == "url":
        yield {"type": "image_url", "image_url": {"url": string_in(source, "url", at)}}


def _call(block: Mapping[str, Any], inside: str) -> dict[str, Any]:
    given = block.get("input")
    try:
        arguments = orjson.dumps({} if given is None else given).decode()
    except TypeError as error:  # orjson writes 254 levels, and reads more
        raise Failure(400, f"{inside}input: {error}", param=f"{inside}input") from error
    return {
        "id": string_in(block, "id", inside),
        "type": "function",
        "function": {"name": string_in(block, "name", inside), "arguments": arguments},
    }


def _result(block: Mapping[str, Any], inside: str) -> dict[str, Any]:
    content = block.get("content")
    answer = {"role": "tool", "tool_call_id": string_in(block, "tool_use_id", inside), "content": ""}
    if isinstance(content, str):
        answer["content"] = content
    elif isinstance(content, list):
        answer["content"] = _result_content(content, f"{inside}content")
    elif content is not None:
        raise wrong(content, "a string or an array of blocks", f"{inside}content")
    return answer


def _result_content(content: list[Any], at: str) -> Any:
    """One string where there are only texts, else parts."""
    parts: list[dict[str, Any]] = []
    images = False
    for number, block in enumerate(content):
        inside = f"{at}[{number}]."
        kind = string_in(an_object(block, inside[:-1]), "type", inside)
        if kind == "text":
            parts.append({"type": "text", "text": string_in(block, "text", inside)})
        elif kind == "image":
            images = True
            parts += _image(block, inside)
    return parts if images else "".join(part["text"] for part in parts)


def _tool(tool: Any, at: str) -> dict[str, Any]:
    an_object(tool, at)
    name, description = string_in(tool, "name", f"{at}."), string_in(tool, "description", f"{at}.")
    parameters = object_in(tool, "input_schema", f"{at}.")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _stop(body: Mapping[str, Any]) -> Any:
    given = body["stop_sequences"]
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise wrong(given, "an array of strings", "stop_sequences")
    return given
