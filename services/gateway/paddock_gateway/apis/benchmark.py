"""`/benchmark`: measures a prompt's answers within each context size, and recommends settings from what it measured."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from statistics import fmean
from typing import Annotated, Any, cast

from aiohttp import web
from msgspec import Meta, Struct

from paddock_gateway.apis.answers import failing_as, json
from paddock_gateway.apis.body import Invalid, detail, read
from paddock_gateway.apis.caller import account_of
from paddock_gateway.apis.refused import noted
from paddock_gateway.contract import Account, Parts
from paddock_gateway.errors import Failure
from paddock_gateway.request_id import REQUEST_ID
from paddock_gateway.settings import Pi

PROMPT = "Explain photosynthesis in two short sentences."
SIZES = (512, 1024)
"""Where a request names none; those that the model's context has room for."""
PATIENCE_S = 15
"""How long a whole answer may take, for the recommended MAX_TOKENS."""
STEP = 32
REASON = "Recommendation favors the profile with the highest measured completion token throughput."


class Benchmark(Struct):
    """The body of `/benchmark`."""

    prompt: Annotated[str, Meta(min_length=1, max_length=8192)] = PROMPT
    max_tokens: Annotated[int, Meta(ge=1, le=2048)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.2
    top_p: Annotated[float, Meta(ge=0, le=1)] = 0.9
    top_k: Annotated[int, Meta(ge=1, le=100)] = 40
    runs: Annotated[int, Meta(ge=1, le=10)] = 2
    context_sizes: Annotated[tuple[Annotated[int, Meta(ge=64, le=1048576)], ...], Meta(min_length=1, max_length=8)] | None = None


class Profile(Struct):
    """The averages of the runs within one context size."""

    context_size: int
    runs: int
    avg_latency_ms: float
    avg_ttft_ms: float
    avg_completion_tokens: float
    avg_completion_tokens_per_second: float


class Environment(Struct):
    N_CTX: int
    MAX_TOKENS: int
    N_THREADS: int
    OLLAMA_KEEP_ALIVE: str


class RequestDefaults(Struct):
    max_tokens: int
    stream: bool = True


class Recommended(Struct):
    env: Environment
    request_defaults: RequestDefaults
    reason: str = REASON


class Benchmarked(Struct):
    """The answer."""

    model: str
    runs: int
    prompt_chars: int
    profiles: tuple[Profile, ...]
    recommended: Recommended


class Run(Struct, frozen=True):
    """One answer: `first_s` to its first text, `whole_s` to its end."""

    whole_s: float
    first_s: float
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        """The rate of generation: tokens after the first by the time after the first; of one token alone, by the whole time."""
        if self.tokens > 1 and self.whole_s > self.first_s:
            return (self.tokens - 1) / (self.whole_s - self.first_s)
        return self.tokens / max(self.whole_s, 1e-6)


def add_routes(app: web.Application, parts: Parts, settings: Pi) -> None:
    @failing_as(detail)
    async def benchmark(request: web.Request) -> web.StreamResponse:
        with noted(parts, request, None):
            account = await account_of(request, parts)
        with noted(parts, request, account):
            asked = await read(request, parts, Benchmark)
        sizes = fitting(asked.context_sizes, parts.upstream.context(settings.model))
        profiles = []
        for size in sizes:
            runs = []
            for _ in range(asked.runs):
                runs.append(await _measured(parts, account, within(asked, settings, size), request[REQUEST_ID]))
            profiles.append(profile(size, runs))
        return json(Benchmarked(settings.model, asked.runs, len(asked.prompt), tuple(profiles), recommended(profiles, asked, settings)))

    app.router.add_post("/benchmark", benchmark)


def fitting(asked: Sequence[int] | None, context: int) -> tuple[int, ...]:
    """The sizes to measure, each once. Raises Invalid for the first above the model's context, by its place."""
    if asked is None:
        return tuple(size for size in SIZES if not context or size <= context) or (context,)
    for place, size in enumerate(asked):
        if context and size > context:
            words = f"{size} is more than the model's context, {context} tokens: ask for at most that, or give the server more"
            raise Invalid(("body", "context_sizes", place), words, "less_than_equal")
    return tuple(dict.fromkeys(asked))


def within(asked: Benchmark, settings: Pi, size: int) -> dict[str, Any]:
    """The request of a run: prompt and answer together fit in `size` tokens, a token of the prompt counted as three bytes."""
    room = size - math.ceil(len(asked.prompt.encode()) / 3)
    return {
        "model": settings.model,
        "messages": [{"role": "user", "content": asked.prompt}],
        "max_tokens": max(1, min(asked.max_tokens or settings.max_tokens, room)),
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "cache_prompt": False,  # else only the first run reads the prompt
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _measured(parts: Parts, account: Account, body: Mapping[str, Any], identity: str) -> Run:
    begun = time.perf_counter()
    first, tokens = 0.0, 0
    chunks = parts.upstream.chunks(account, "/v1/chat/completions", body, logged_as="/benchmark", request_id=identity)
    async with aclosing(cast(AsyncGenerator[Mapping[str, Any], None], chunks)):
        async for chunk in chunks:
            delta: Mapping[str, Any] = next((choice.get("delta", {}) for choice in chunk.get("choices") or ()), {})
            if not first and (delta.get("content") or delta.get("reasoning_content")):
                first = time.perf_counter()
            tokens = int((chunk.get("usage") or {}).get("completion_tokens", tokens))
    ended = time.perf_counter()
    if not tokens:
        raise Failure(502, "The model's answer had no tokens to measure.", "nothing_measured")
    return Run(ended - begun, (first or ended) - begun, tokens)


def profile(size: int, runs: Sequence[Run]) -> Profile:
    return Profile(
        context_size=size,
        runs=len(runs),
        avg_latency_ms=round(1000 * fmean(run.whole_s for run in runs), 2),
        avg_ttft_ms=round(1000 * fmean(run.first_s for run in runs), 2),
        avg_completion_tokens=round(fmean(run.tokens for run in runs), 1),
        avg_completion_tokens_per_second=round(fmean(run.tokens_per_second for run in runs), 2),
    )


def recommended(profiles: Sequence[Profile], asked: Benchmark, settings: Pi) -> Recommended:
    """From the fastest profile (of equals the first): its size, and as many tokens as it makes in 15 seconds, in steps of 32.

    MAX_TOKENS is at least 32, at most what was asked for, and leaves half of the context to the prompt. So 9.42 tokens a second, a context
    of 512 and 160 asked for give 128.
    """
    best = max(profiles, key=lambda found: found.avg_completion_tokens_per_second)
    made = int(best.avg_completion_tokens_per_second * PATIENCE_S) // STEP * STEP
    tokens = min(max(made, STEP), max(asked.max_tokens or settings.max_tokens, STEP), best.context_size // 2)
    threads = settings.threads or os.cpu_count() or 1
    return Recommended(Environment(best.context_size, tokens, threads, duration(settings.residency_s)), RequestDefaults(tokens))


def duration(seconds: int) -> str:
    """`30m`, or `90s` where it is no whole number of minutes: Go's notation, in which that system has its OLLAMA_KEEP_ALIVE."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"
