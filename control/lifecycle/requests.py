"""What both releases are asked: what is timed, and once a pass what a client may ask for beside a plain answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from inventory.fleet import Fleet
from roles.llama_cpp.measuring import Request
from roles.preset import purpose
from roles.server import Server
from roles.speed import STORY, long_prompt, slot_context

LOAD, SWAP, SWAP_BACK = "load", "swap", "swap back"
SHORT, LONG, EMBEDDED = "short prompt", "long prompt", "long embedding"
STREAM, TOOL, SCHEMA, LIKELY, EMBEDDING, RANKING = "stream", "tool call", "JSON schema", "likely words", "embedding", "ranking"

GENERATED = 64
"""Tokens that a timed answer has."""
CITIES, COLOURS = ("Paris", "Oslo"), ("red", "green", "blue")
TOOL_NAME = "weather"

QUESTION = "What is the weather in Paris? Use the tool."


@dataclass(frozen=True)
class AskedModel:
    """A model of the server that is measured, by the name that it answers to. `context` is a slot's, in tokens, None where nobody knows."""

    name: str
    purpose: Literal["chat", "embedding", "rerank"] = "chat"
    context: int | None = None


def asked_models(server: Server, fleet: Fleet) -> tuple[AskedModel, ...]:
    """The server's models in the inventory's order. A slot's context is known where the inventory says it."""
    presets = {name: fleet.preset(server, name) for name in server.models}
    return tuple(AskedModel(name, purpose(preset), slot_context(preset)) for name, preset in presets.items())


def requests(models: Sequence[AskedModel], kind: Literal["router", "instance"]) -> tuple[Request, ...]:
    """Of a router the first model is timed, and the second is what it swaps to. Every purpose among the models is asked for once."""
    first = models[0]
    found = list(_swaps(first, models[1:2])) if kind == "router" else []
    for model in {each.purpose: each for each in reversed(models)}.values():
        found += _of_purpose(model)
    return (*found, *_timed(first))


def _swaps(first: AskedModel, others: Sequence[AskedModel]) -> Iterator[Request]:
    yield _smallest(LOAD, first)
    for other in others:
        yield _smallest(SWAP, other)
        yield _smallest(SWAP_BACK, first)


def _smallest(name: str, model: AskedModel) -> Request:
    """What costs least once the model is there."""
    match model.purpose:
        case "embedding":
            return _request(name, "/v1/embeddings", model=model.name, input="Hello")
        case "rerank":
            return _request(name, "/v1/rerank", model=model.name, query="Hello", documents=["Hello"])
        case _:
            return _request(name, "/completion", model=model.name, prompt="Hello", n_predict=1)


def _timed(model: AskedModel) -> Iterator[Request]:
    long = long_prompt(model.context)
    if model.purpose == "chat":
        sampled = {"model": model.name, "n_predict": GENERATED, "ignore_eos": True, "stream": True, "response_fields": ["timings"]}
        exact = {**sampled, **_exactly(), "cache_prompt": False}
        yield _request(SHORT, "/completion", timed=True, prompt="Story @@. The ferry left the harbour", **exact)
        yield _request(LONG, "/completion", timed=True, prompt=f"Story @@. {long}", **exact)
    elif model.purpose == "embedding":
        yield _request(EMBEDDED, "/v1/embeddings", timed=True, model=model.name, input=f"Story @@. {long}")
    else:
        documents = [f"Story @@. {long}", "Another."]
        yield _request(EMBEDDED, "/v1/rerank", timed=True, model=model.name, query="Which island is the largest?", documents=documents)


def _of_purpose(model: AskedModel) -> Iterator[Request]:
    if model.purpose == "embedding":
        yield _request(EMBEDDING, "/v1/embeddings", model=model.name, input="The ferry left the harbour an hour late.")
        return
    if model.purpose == "rerank":
        documents = ["The cook brought soup to everybody.", "The ferry left the harbour."]
        yield _request(RANKING, "/v1/rerank", model=model.name, query="Who brought soup?", documents=documents)
        return
    words = {"model": model.name, **_exactly(), "chat_template_kwargs": {"enable_thinking": False}}
    yield _request(LIKELY, "/completion", model=model.name, prompt=STORY[:120], n_predict=8, n_probs=20, cache_prompt=False, **_exactly())
    yield _request(STREAM, "/v1/chat/completions", messages=_said("Tell me of the sea."), stream=True, max_tokens=16, **words)
    yield _request(
        TOOL,
        "/v1/chat/completions",
        messages=_said(QUESTION),
        tools=[{"type": "function", "function": {"name": TOOL_NAME, "description": "The weather of a city", "parameters": _city()}}],
        tool_choice="required",
        max_tokens=512,
        **words,
    )
    state = {"ready": {"type": "boolean"}, "colour": {"type": "string", "enum": COLOURS}}
    schema = {"type": "object", "properties": state, "required": [*state], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "state", "strict": True, "schema": schema}}
    yield _request(
        SCHEMA, "/v1/chat/completions", messages=_said("Is the traffic light ready?"), response_format=wanted, max_tokens=512, **words
    )


def _city() -> dict[str, Any]:
    return {"type": "object", "properties": {"city": {"type": "string", "enum": CITIES}}, "required": ["city"]}


def _exactly() -> dict[str, Any]:
    """The likeliest word, always."""
    return {"temperature": 0, "seed": 1}


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _request(name: str, path: str, *, timed: bool = False, **body: Any) -> Request:
    return Request(name, path, json.dumps(body).encode(), timed)
