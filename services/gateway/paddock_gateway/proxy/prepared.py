"""A request as it came, made into one that goes up: the model, what it asks of the dispatcher, and the members that the gateway sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from paddock_gateway.contract import Account, Ask, Place
from paddock_gateway.convert.converter import Converter
from paddock_gateway.errors import Failure
from paddock_gateway.proxy.assemble import whole_only
from paddock_gateway.proxy.body import REMOVED, Body
from paddock_gateway.proxy.convert import converter
from paddock_gateway.proxy.digests import prefixes
from paddock_gateway.proxy.exchange import Wanted
from paddock_gateway.proxy.form import Form
from paddock_gateway.proxy.models import Models
from paddock_gateway.proxy.pace import Size
from paddock_gateway.proxy.routes import ROUTES, Route

DEFAULT_TOKENS = 1024
"""What a request that names no limit is taken to generate."""

MOST_PROMPTS = 100_000
"""Of a list that may have more, each comma counts as one."""

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
_MEDIA = (b"_url", b"image", b"audio", b"video", b"multimodal", b"file")
"""Marks of a prompt whose bytes say nothing about the time that it takes; in a mere text they do no harm."""
SHORT = 16 * 1024
"""Bytes of a body that may be answered soon."""
_FETCHED = ("file", "files", "image", "images", "ref_images")
"""What LocalAI takes as an address to fetch."""
_AT_MOST = {"n": 10, "step": 150}
_COUNTING = ("/input_tokens", "/count_tokens", "/tokenize", "/detokenize", "/apply-template")
"""Routes that compute no token."""


@dataclass(slots=True)
class Prepared:
    wanted: Wanted
    asked_name: str
    """As the caller names the model."""
    stream: bool
    """Whether the caller wants a stream."""
    assembled: bool
    """Whether the answer is put together from a stream."""
    converter: Converter | None


def prepare(models: Models, account: Account, route: Route, body: Body, headers: Mapping[str, str]) -> Prepared:
    """Raises Failure where the request cannot go up."""
    name = body.text("model")
    model = models.find(name, account)
    _require_fit(route, model, models[model].image_size)
    if route.kind == "image":
        _require_own_words(body)
    stream = route.generates and body.flag("stream")
    converting = converter(route, body)
    up = route
    if converting:
        path, said = converting.request(body.parsed())
        body, up = Body(orjson.dumps(said)), ROUTES[path]
    assembled = up.generates and not stream and not whole_only(up.kind, body, converted=converting is not None)

    answers = _answers(body) if up.slots else 1
    ask = Ask(
        account=account,
        model=model,
        targets=tuple((target.backend, target.model) for target in models[model].targets),
        tokens=_tokens(route, body, models[model].context),
        prefixes=prefixes(up.kind, model, body) if up.slots else (),
        places=answers if computes(route) else 0,
        scattered=answers > 1 or (computes(route) and not up.slots),
    )
    quiet = up.slots and (stream or assembled) and not body.flag("return_progress")
    made = _Json(body, name, up, assembled, quiet, models[model].image_size)
    sent = {**headers, "Content-Type": "application/json"}
    size = _size(body) if assembled else None
    wanted = Wanted(ask, up.path, up.kind, stream or assembled, made, sent, progress=not quiet, size=size)
    return Prepared(wanted, name or model, stream, assembled, converting)


def prepare_form(models: Models, account: Account, route: Route, form: Form, headers: Mapping[str, str], content_type: str) -> Prepared:
    name = form.fields.get("model")
    model = models.find(name, account)
    _require_fit(route, model, models[model].image_size)
    stream = form.fields.get("stream", "").lower() in ("true", "1")
    ask = Ask(account, model, tuple((target.backend, target.model) for target in models[model].targets), DEFAULT_TOKENS, scattered=True)

    wanted = Wanted(ask, route.path, route.kind, stream, _Multipart(form), {**headers, "Content-Type": content_type})
    return Prepared(wanted, name or model, stream, False, None)


def _require_fit(route: Route, model: str, image_size: str) -> None:
    """Raises Failure where a model that makes images is asked for text, or one that makes text for an image."""
    if image_size and route.kind != "image":
        raise Failure(400, f"{model} makes images: ask it at /v1/images/generations.", "wrong_model", param="model")
    if route.kind == "image" and not image_size:
        raise Failure(400, f"{model} makes no images.", "wrong_model", param="model")


def _require_own_words(body: Body) -> None:
    """Raises Failure where a request for an image would have the back end fetch one, or keep it busy for hours."""
    if fetched := next((name for name in _FETCHED if name in body), ""):
        raise Failure(400, f'"{fetched}" is not passed on: images are made of a prompt alone.', "bad_field", param=fetched)
    for name, most in _AT_MOST.items():
        if (body.number(name) or 0) > most:
            raise Failure(400, f'"{name}" is to be {most} at most.', "bad_field", param=name)


class _Json:
    """A Sent."""

    def __init__(self, body: Body, name: str | None, route: Route, assembled: bool, quiet: bool, image_size: str) -> None:
        """`quiet`: the caller has not asked for the prompt's progress."""
        self._body: Body | None = body
        self._name, self._route, self._assembled, self._quiet, self._image_size = name, route, assembled, quiet, image_size

    def made_for(self, place: Place, *, stream: bool) -> bytes:
        assert self._body
        changes: dict[str, Any] = {}
        if place.model != self._name:
            changes["model"] = place.model
        if self._route.slots:
            changes["id_slot"] = REMOVED if place.slot is None else place.slot
            if not place.cache:
                changes["cache_prompt"] = False
        if self._route.kind == "image":
            # a URL would lead to the back end, which callers do not reach
            changes["response_format"] = "b64_json"
            if not self._body.text("size"):
                changes["size"] = self._image_size
        if stream:
            changes["stream"] = True  # a conversion may have left it out
        if stream and self._quiet:
            # llama-server looks whether its reader has gone when it has something to say, or has heard of no request at all for a second
            # (recv_with_timeout in tools/server/server-queue.cpp): beside others' streams it would read a long prompt to its end
            changes["return_progress"] = True
        if stream and self._assembled and self._route.kind == "chat":
            changes["stream_options"] = {"include_usage": True}
        return self._body.changed(changes)

    def release(self) -> None:
        self._body = None


class _Multipart:
    """A Sent."""

    def __init__(self, form: Form) -> None:
        self._form: Form | None = form

    def made_for(self, place: Place, *, stream: bool) -> bytes:
        assert self._form
        return self._form.with_model(place.model)

    def release(self) -> None:
        self._form = None


def _tokens(route: Route, body: Body, context: int) -> int:
    """A token has about three bytes of a prompt in JSON, at least; a request takes no more than its model's context for each answer."""
    if not computes(route):
        return 0
    asked = 0
    if route.generates:
        said = [number for name in _LIMITS if (number := body.number(name)) is not None and number > 0]
        asked = max(said, default=DEFAULT_TOKENS)
    prompts, prompt = _prompts(body), len(body.raw) // 3
    if context:
        prompt, asked = min(prompt, prompts * context), min(asked, context)
    return prompt + asked * prompts * _answers(body)


def _size(body: Body) -> Size:
    said = [body.number(name) for name in _LIMITS if name in body]
    answers = [number for number in said if number is not None and number > 0]
    bounded = answers and len(answers) == len(said) and _answers(body) == _prompts(body) == 1
    if not bounded or len(body.raw) > SHORT or any(mark in body.raw for mark in _MEDIA):
        return Size(0, None)
    return Size(len(body.raw) // 3, max(answers))


def computes(route: Route) -> bool:
    return not route.path.endswith(_COUNTING)


def _answers(body: Body) -> int:
    """Each runs in a slot of its own (`n_cmpl` in tools/server/server-schema.cpp, `n` is an alias)."""
    return min(max(body.number("n_cmpl") or body.number("n") or 1, 1), 256)


def _prompts(body: Body) -> int:
    """`/completion` and `/v1/completions` take a list of prompts; a list that begins with a number is one prompt, in tokens."""
    raw = body.bytes_of("prompt")
    if not raw.startswith(b"[") or raw[1:].lstrip()[:1] not in (b'"', b"[", b"{"):
        return 1
    at_most = 1 + raw.count(b",")
    if at_most > MOST_PROMPTS:
        return at_most  # taken apart it would cost far more memory than the request
    try:
        return len(_LIST.decode(raw))
    except (msgspec.MsgspecError, RecursionError):
        return 1


_LIST = msgspec.json.Decoder(list[Raw])
