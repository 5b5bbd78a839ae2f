"""Digests of a conversation up to each of its messages: what a slot's cache is found again by.

A digest covers what stands before the messages in the prompt too (tools, system, template arguments). What a client changes at each call
without changing the conversation is left out: Claude Code's billing header in the first system block, whose `cch` differs each time; see
normalize_anthropic_billing_header in llama.cpp's tools/server/server-chat.cpp, which takes it out of the prompt as well. And so are the
marks `cache_control`, which Anthropic's clients move on to the last message of each call, with the block of text that they make for it.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.routes import Kind

MOST = 2048
"""Digests of one request: the first messages, which are the ones that stay."""

BLOCK = 2048
"""Bytes of a bare prompt for each digest."""

_BEFORE = ("tools", "functions", "system", "instructions", "chat_template_kwargs", "reasoning_effort", "input_extra", "input_prefix")
_BILLING = re.compile(rb"x-anthropic-billing-header:[^\"]{0,512}?cch=[0-9a-fA-F]{5};")
_MARK = re.compile(rb',?\s*"cache_control"\s*:\s*(?:\{[^{}"]{0,64}(?:"[^"{}]{0,64}"[^{}"]{0,64}){0,8}\}|null)')
_ONE_TEXT = re.compile(rb'\[\s*\{\s*"type"\s*:\s*"text"\s*,\s*"text"\s*:\s*("(?:[^"\\]|\\.)*")\s*\}\s*\]')
"""Content of one block of text is the text alone."""
_ITEMS = msgspec.json.Decoder(list[Raw])


class _Object(Struct):
    """Any JSON object."""


_OBJECTS = msgspec.json.Decoder(list[_Object])


def prefixes(kind: Kind, model: str, body: Body) -> tuple[bytes, ...]:
    """Digests of 16 bytes, the shortest prefix first; none where the request has no conversation."""
    state = blake2b(model.encode(), digest_size=16)
    for name in _BEFORE:
        if name in body:
            state.update(name.encode() + b"\0" + _steady(body.bytes_of(name)) + b"\0")
    if kind == "chat":
        return _of_items(state, body.bytes_of("messages"))
    if kind == "responses":
        return _of_items(state, body.bytes_of("input"))
    return _of_text(state, body.bytes_of("prompt") or body.bytes_of("input_prefix"))


def _of_items(state: blake2b, raw: bytes) -> tuple[bytes, ...]:
    if not raw.startswith(b"["):
        return _of_text(state, raw)
    if raw.count(b"{") > 100 * MOST:  # an array of so many objects is no conversation, and would take much memory apart
        return ()
    try:
        _OBJECTS.decode(raw)  # ends at the first that is none: a list of a million numbers is never taken apart
        items = _ITEMS.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return ()
    found = []
    for number, item in enumerate(items[:MOST]):
        state.update(_steady(bytes(item), billed=number < 2))
        state.update(b"\0")
        found.append(state.digest())
    return tuple(found)


def _of_text(state: blake2b, raw: bytes) -> tuple[bytes, ...]:
    found = []
    for begins in range(0, min(len(raw), MOST * BLOCK), BLOCK):
        state.update(raw[begins : begins + BLOCK])
        found.append(state.digest())
    return tuple(found)


def _steady(raw: bytes, *, billed: bool = True) -> bytes:
    if billed and b"x-anthropic-billing-header" in raw:
        raw = _BILLING.sub(b"", raw)
    if b'"cache_control"' in raw:
        raw = _MARK.sub(b"", raw)
    return _ONE_TEXT.sub(rb"\1", raw) if b'"text"' in raw else raw
