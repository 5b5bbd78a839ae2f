"""The gateway's own description: OpenAPI 3.1 of the routes that it has, at `/openapi.json`.

The small host's and LiteLLM's calls are described in full; what goes to llama-server only by its path: llama.cpp's server documents it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from paddock_gateway.apis import admin, benchmark, keys_generate, litellm_keys, pi
from paddock_gateway.apis.answers import json
from paddock_gateway.contract import Parts
from paddock_gateway.metrics import VERSION

DETAIL: Mapping[str, Any] = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": ["string", "array"]}}}
ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
PASSED: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type"], "properties": {"message": {"type": "string"}}}},
}
"""Of a call that is passed on: OpenAI's, Anthropic's, or what llama-server says itself."""
FREE: Mapping[str, Any] = {"type": "object"}
EVENT: Mapping[str, Any] = {"type": "object", "required": ["data"], "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
FAILURES: Mapping[str, Mapping[str, Any]] = {"error": ERROR, "detail": DETAIL, "passed": PASSED, "free": FREE}


@dataclass(frozen=True)
class Call:
    """One call. `answer` is a struct, a schema, or None for text; `query` are the parameters in the address with their schemas."""

    says: str
    tag: str
    answer: Any = None
    body: Any = None
    failing: str = "error"
    """Of FAILURES; empty: it never fails."""
    key: bool = True
    query: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    events: bool = False
    """Answers with server-sent events, too."""
    body_required: bool = True


WORD: Mapping[str, Any] = {"type": "string"}
CALLS: Mapping[tuple[str, str], Call] = {
    ("/generate", "post"): Call("Generates text from a prompt", "pi", pi.Generated, pi.Generate, "detail", events=True),
    ("/benchmark", "post"): Call("Measures and recommends settings", "pi", benchmark.Benchmarked, benchmark.Benchmark, "detail"),
    ("/health", "get"): Call("How it is", "pi", pi.Health, failing="", key=False),
    ("/keys/generate", "post"): Call("Makes a key", "pi", keys_generate.NewKey, keys_generate.Owner, "detail", key=False),
    ("/key/generate", "post"): Call("Makes a key", "litellm", litellm_keys.Made, litellm_keys.GenerateKey),
    ("/key/info", "get"): Call("Shows a key", "litellm", litellm_keys.Info, query=(("key", WORD),)),
    ("/key/delete", "post"): Call("Revokes keys", "litellm", litellm_keys.Deleted, litellm_keys.Keys),
    ("/key/block", "post"): Call("Disables a key", "litellm", litellm_keys.Shown, litellm_keys.Key),
    ("/key/unblock", "post"): Call("Enables a key again", "litellm", litellm_keys.Shown, litellm_keys.Key),
    ("/key/regenerate", "post"): Call("Replaces a key", "litellm", litellm_keys.Made, litellm_keys.Key),
    ("/key/list", "get"): Call(
        "Lists keys",
        "litellm",
        litellm_keys.Listed,
        query=(
            ("page", {"type": "integer", "minimum": 1, "maximum": 10**6}),
            ("size", {"type": "integer", "minimum": 1, "maximum": 100}),
            ("user_id", WORD),
            ("key_alias", WORD),
            ("return_full_object", {"type": "boolean"}),
        ),
    ),
    ("/model/info", "get"): Call("Lists models", "litellm", FREE),
    ("/v1/model/info", "get"): Call("Lists models", "litellm", FREE),
    ("/health/liveliness", "get"): Call("Whether it lives", "litellm", WORD, failing="", key=False),
    ("/health/liveness", "get"): Call("Whether it lives", "litellm", WORD, failing="", key=False),
    ("/health/readiness", "get"): Call("Whether it takes requests", "litellm", FREE, failing="free", key=False),
    ("/admin/drain", "post"): Call("Takes no new request", "admin", FREE, admin.Drain, body_required=False),
    ("/admin/resume", "post"): Call("Takes requests again", "admin", FREE),
    ("/admin/status", "get"): Call("Figures and back ends", "admin", FREE),
    ("/livez", "get"): Call("Whether it lives", "watching", failing="", key=False),
    ("/readyz", "get"): Call("Whether it takes requests", "watching", key=False),
    ("/metrics", "get"): Call("Prometheus' metrics", "watching"),
    ("/openapi.json", "get"): Call("This description", "watching", FREE, failing="", key=False),
}


def add_routes(app: web.Application, parts: Parts) -> None:
    kept: list[dict[str, Any]] = []

    async def show(request: web.Request) -> web.StreamResponse:
        if not kept:
            kept.append(description(set(_routes(app))))
        return json(kept[0])

    app.router.add_get("/openapi.json", show)


def _routes(app: web.Application) -> Iterable[tuple[str, str]]:
    for route in app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if "{" not in path and route.method not in ("HEAD", "*", "OPTIONS"):
            yield path, route.method.lower()


def description(routes: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Of these paths and methods; one that is not known here is described as a call that is passed on."""
    calls = {
        route: CALLS.get(route, Call("Goes to llama-server", "llama-server", FREE, FREE, "passed", events=True)) for route in sorted(routes)
    }
    structs = [kind for call in calls.values() for kind in (call.body, call.answer) if isinstance(kind, type)]
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    of = dict(zip(structs, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), call in calls.items():
        paths.setdefault(path, {})[method] = _operation(path, method, call, of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Paddock's gateway", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(path: str, method: str, call: Call, of: Mapping[type, Mapping[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = (
        {"text/plain": {"schema": WORD}} if call.answer is None else {"application/json": {"schema": _schema(call.answer, of)}}
    )
    if call.events:
        content["text/event-stream"] = {"schema": EVENT}
    operation: dict[str, Any] = {
        "summary": call.says,
        "tags": [call.tag],
        "operationId": f"{method}{path.replace('/', '_').replace('.', '_')}",
        "security": [{"bearer": []}, {"header": []}] if call.key else [],
        "responses": {"200": {"description": "The answer", "content": content}},
    }
    if call.failing:
        failing = {"application/json": {"schema": FAILURES[call.failing]}, "text/plain": {"schema": WORD}}
        operation["responses"] |= {status: {"description": "What is wrong", "content": failing} for status in ("4XX", "5XX")}
    if call.body is not None and method == "post":
        operation["requestBody"] = {"required": call.body_required, "content": {"application/json": {"schema": _schema(call.body, of)}}}
    if call.query:
        operation["parameters"] = [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in call.query]
    return operation


def _schema(kind: Any, of: Mapping[type, Mapping[str, Any]]) -> Mapping[str, Any]:
    return of[kind] if isinstance(kind, type) else kind
