"""Unstreamed answers, put together from the stream that the back end is asked for.

llama-server gives up a stream when its reader goes, but not an unstreamed request beside other work (`pace` says when that is over too
soon to matter). What comes out equals its own unstreamed answer but for ids and times; the order of fields is that of to_json_* in
llama.cpp's tools/server/server-task.cpp.

`whole_only` names what the stream does not carry, or not as the whole answer has it: such a request goes up unstreamed, and is given up by
closing its connection. It is so for logprobs (a token without visible text has no event that could carry its logprobs), n_probs,
return_tokens, verbose, and response_fields of llama-server's own format; and for every transcription. One difference is left: a chat that
ends inside the tag that opens its reasoning has the tag as its content when it is asked for whole, and no content when it is streamed.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from paddock_gateway.proxy.body import NONE, Body
from paddock_gateway.proxy.events import decoded, objects
from paddock_gateway.proxy.routes import Kind

LARGEST = 64 * 1024 * 1024
"""Bytes of one answer."""

BESIDE_TEXT = 256
"""Bytes of an event that the answer does not keep."""

_WHOLE_ONLY = frozenset({"logprobs", "top_logprobs", "n_probs", "return_tokens"})
_WHOLE_ONLY_NATIVE = _WHOLE_ONLY | {"response_fields"}
_WHOLE_ONLY_VERBOSE = _WHOLE_ONLY | {"verbose"}


class Broken(Exception):
    """Events that make no answer."""


class Assembly(Protocol):
    def add(self, batch: bytes) -> bool:
        """Whole events. Whether there was anything in them. Raises Broken, and what comes of types that are wrong: KeyError and others."""

    def whole(self) -> Any:
        """Raises Broken."""


def whole_only(kind: Kind, body: Body, *, converted: bool) -> bool:
    """`converted`: the conversion reads the whole answer, and takes `__verbose` as the stream has it."""
    if kind == "transcription":
        return True
    names = _WHOLE_ONLY_NATIVE if kind == "native" else _WHOLE_ONLY if converted else _WHOLE_ONLY_VERBOSE
    return any(body.bytes_of(name) not in (b"null", b"false", b"0") for name in names & body.members.keys())


def assembly(kind: Kind) -> Assembly:
    made: dict[Kind, type[Assembly]] = {"chat": Chat, "completion": Completion, "native": Native, "responses": Response}
    return made[kind]()


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class _Choice(Struct, gc=False):
    index: int
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Event(Struct):
    """Of a chat. What only its last event is asked for is not taken apart."""

    choices: list[_Choice] | None = None
    created: Raw = NONE
    model: Raw = NONE
    system_fingerprint: Raw = NONE
    id: Raw = NONE
    usage: Any = None
    timings: Any = None
    verbose: Any = msgspec.field(name="__verbose", default=None)


_EVENTS = msgspec.json.Decoder(list[_Event])


def _chat_events(raw: bytes) -> list[_Event]:
    try:
        return _EVENTS.decode(raw)
    except (msgspec.ValidationError, RecursionError):
        raise Broken from None


class _Message:
    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []


class Chat:
    def __init__(self) -> None:
        self._messages: dict[int, _Message] = {}
        self._ends: dict[int, tuple[str, _Event]] = {}
        self._counts: dict[int, _Event] = {}
        self._last: int = 0
        self._verbose: Any = None

    def add(self, batch: bytes) -> bool:
        found = decoded(batch, _chat_events, msgspec.DecodeError)
        for event in found:
            if event.verbose is not None:
                self._verbose = event.verbose
            for choice in event.choices or ():
                self._add(choice, event)
            if not event.choices and event.usage is not None and self._last in self._ends:
                self._counts[self._last] = event
        return bool(found)

    def _add(self, choice: _Choice, event: _Event) -> None:
        self._last = index = choice.index
        message = self._messages.get(index)
        if message is None:
            message = self._messages[index] = _Message()
        if delta := choice.delta:
            if delta.content:
                message.content.append(delta.content)
            if delta.reasoning_content:
                message.reasoning.append(delta.reasoning_content)
            for call in delta.tool_calls or ():
                _add_call(message.calls, call)
        if choice.finish_reason:
            self._ends[index] = choice.finish_reason, event

    def whole(self) -> dict[str, Any]:
        if not self._ends or set(self._ends) != set(self._messages):
            raise Broken
        choices = [
            {"finish_reason": self._ends[index][0], "index": index, "message": _message(self._messages[index])}
            for index in sorted(self._messages)
        ]
        first = min(self._ends)
        said, counts = self._ends[first][1], self._counts.get(first)
        named = {name: _parsed(getattr(said, name)) for name in ("created", "model", "system_fingerprint", "id")}
        usage, timings = (counts.usage, counts.timings) if counts else (None, None)
        return _answer(choices, named, "chat.completion", usage, timings or said.timings, self._verbose)


def _parsed(raw: Raw) -> Any:
    return msgspec.json.decode(raw) if bytes(raw) else None


def _add_call(calls: list[dict[str, Any]], delta: dict[str, Any]) -> None:
    at = delta["index"]
    if not 0 <= at <= len(calls) or at > 1024:
        raise Broken
    if at == len(calls):
        calls.append({"id": "", "name": [], "arguments": []})
    call, function = calls[at], delta.get("function") or {}
    call["id"] = call["id"] or delta.get("id") or ""
    for name in ("name", "arguments"):
        if function.get(name):
            call[name].append(function[name])


def _message(said: _Message) -> dict[str, Any]:
    """As common_chat_msg::to_json_oaicompat has it: content is "" where there is none."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.content)}
    if said.reasoning:
        message["reasoning_content"] = "".join(said.reasoning)
    if said.calls:
        message["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": "".join(call["name"]), "arguments": "".join(call["arguments"])},
                **({"id": call["id"]} if call["id"] else {}),
            }
            for call in said.calls
        ]
    return message


def _answer(
    choices: list[dict[str, Any]], said: dict[str, Any], kind: str, usage: Any, timings: Any, verbose: Any = None
) -> dict[str, Any]:
    answer = {
        "choices": choices,
        "created": said.get("created"),
        "model": said.get("model"),
        "system_fingerprint": said.get("system_fingerprint"),
        "object": kind,
        "usage": usage,
        "id": said.get("id"),
        "__verbose": verbose,
        "timings": timings,
    }
    optional = ("system_fingerprint", "usage", "timings", "__verbose")
    return {name: value for name, value in answer.items() if value is not None or name not in optional}


class _Parsed:
    def add(self, batch: bytes) -> bool:
        found = objects(batch)
        for event in found:
            self._add(event)
        return bool(found)

    def _add(self, event: dict[str, Any]) -> None:
        raise NotImplementedError


class Completion(_Parsed):
    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._ends: dict[int, dict[str, Any]] = {}

    def _add(self, event: dict[str, Any]) -> None:
        for choice in event.get("choices") or ():
            index = choice["index"]
            self._texts.setdefault(index, []).append(choice.get("text") or "")
            if choice.get("finish_reason"):
                self._ends[index] = event

    def whole(self) -> dict[str, Any]:
        if not self._ends or set(self._ends) != set(self._texts):
            raise Broken
        choices = [
            {**self._ends[index]["choices"][0], "text": "".join(self._texts[index])}  # the place of `text` stays
            for index in sorted(self._texts)
        ]
        said = self._ends[min(self._ends)]
        return _answer(choices, said, "text_completion", said.get("usage"), said.get("timings"))


class Native(_Parsed):
    """llama-server's own format: one object, or a list of them for several prompts."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._ends: dict[int, dict[str, Any]] = {}

    def _add(self, event: dict[str, Any]) -> None:
        index = event.get("index", 0)
        self._texts.setdefault(index, []).append(event.get("content") or "")
        if event.get("stop"):
            self._ends[index] = event

    def whole(self) -> Any:
        if not self._ends or set(self._ends) != set(self._texts):
            raise Broken
        answers = [{**self._ends[index], "content": "".join(self._texts[index]), "tokens": []} for index in sorted(self._texts)]
        for answer in answers:
            answer["generation_settings"] = {**answer["generation_settings"], "stream": False}
        return answers[0] if len(answers) == 1 else answers


class Response(_Parsed):
    """The last event has the whole response; the unstreamed one says the time of its end and the state of each item besides."""

    def __init__(self) -> None:
        self._said: dict[str, Any] | None = None

    def _add(self, event: dict[str, Any]) -> None:
        if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            self._said = event.get("response")

    def whole(self) -> dict[str, Any]:
        if self._said is None:
            raise Broken
        said = self._said
        output = [
            _ordered({**item, "status": "completed"}, _MESSAGE if item.get("type") == "message" else ())
            for item in said.get("output") or ()
        ]
        return _ordered({**said, "completed_at": said.get("created_at"), "output": output}, _RESPONSE)


_RESPONSE = ("completed_at", "created_at", "id", "model", "object", "output", "status", "usage")
_MESSAGE = ("content", "id", "role", "status", "type")


def _ordered(said: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {**{name: said[name] for name in names if name in said}, **said}
