"""A stand-in for a llama-server, for tests of many requests: `python -m tests.gateway.back_end PORT SLOTS`.

It answers at once or at a pace, as llama-server 0.3.36 does where the gateway looks: `/health`, `/props`, `/slots`, `/v1/models`, streams
that end with `usage` and a closed connection. A request for `id_slot` waits for that slot. `GET /told` says what came: users in the order
in which their requests got a slot, and the most that ran at once.

    --token-ms MS   the time of one token; 0: the whole answer in one piece
    --models A,B    a router of these, one loaded at a time; a swap takes --swap-ms
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class BackEnd:
    slots: int
    token_s: float = 0.0
    models: tuple[str, ...] = ()
    swap_s: float = 0.0
    loaded: str = ""
    swaps: int = 0
    running: int = 0
    most: int = 0
    running_of: Counter[str] = field(default_factory=Counter)
    most_of: Counter[str] = field(default_factory=Counter)
    """By user: the most of their requests that ran at once."""
    served: list[tuple[str, int]] = field(default_factory=list)
    """User and tokens of each request, as they were given a slot."""
    broken: int = 0
    _places: defaultdict[tuple[str, int], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _free: asyncio.Condition = field(default_factory=asyncio.Condition)
    _model: asyncio.Lock = field(default_factory=asyncio.Lock)
    _of_model: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/health", lambda _: _json({"status": "ok"}))
        app.router.add_get("/props", self.props)
        app.router.add_get("/slots", self.shown_slots)
        app.router.add_get("/v1/models", self.listed)
        app.router.add_get("/models", self.listed)
        app.router.add_get("/told", self.told)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def props(self, _: web.Request) -> web.StreamResponse:
        return await _json({"total_slots": self.slots, "default_generation_settings": {"n_ctx": 4096}})

    async def shown_slots(self, _: web.Request) -> web.StreamResponse:
        busy = {slot for (_, slot), lock in self._places.items() if lock.locked()}
        return await _json([{"id": slot, "is_processing": slot in busy} for slot in range(self.slots)])

    async def listed(self, _: web.Request) -> web.StreamResponse:
        names = self.models or ("tiny",)
        state = [{"id": name, "object": "model", "status": {"value": "loaded" if name == self.loaded else "unloaded"}} for name in names]
        return await _json({"object": "list", "data": state if self.models else [{"id": "tiny", "object": "model"}]})

    async def told(self, _: web.Request) -> web.StreamResponse:
        said = {"served": self.served, "most": self.most, "most_of": self.most_of}
        return await _json(said | {"swaps": self.swaps, "broken": self.broken, "running": self.running})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        tokens = int(body.get("max_tokens", 8))
        prompt = len(json.dumps(body["messages"])) // 4
        slot = int(body.get("id_slot", -1)) % self.slots
        model, user = str(body.get("model", "")), str(body.get("user", ""))
        async with self._places[(model if self.models else "", slot)]:
            if self.models:
                await self.load(model)
            self.running += 1
            self._of_model[model] += 1
            self.most = max(self.most, self.running)
            self.running_of[user] += 1
            self.most_of[user] = max(self.most_of[user], self.running_of[user])
            self.served.append((user, prompt + tokens))
            try:
                return await self.answer(request, body, prompt, tokens)
            except (ConnectionResetError, asyncio.CancelledError):
                self.broken += 1
                raise
            finally:
                self.running -= 1
                self.running_of[user] -= 1
                self._of_model[model] -= 1

    async def load(self, model: str) -> None:
        """Ends the model that is loaded once nobody uses it, as a router with `models_max` 1 does."""
        async with self._model:
            if self.loaded != model:
                while self._of_model[self.loaded]:
                    await asyncio.sleep(0.001)
                self.loaded, self.swaps = model, self.swaps + 1
                await asyncio.sleep(self.swap_s)

    async def answer(self, request: web.Request, body: dict[str, Any], prompt: int, tokens: int) -> web.StreamResponse:
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": int(time.time()), "model": body.get("model", "tiny")}
        if not body.get("stream"):
            await asyncio.sleep(self.token_s * tokens)
            choice = {"index": 0, "message": {"role": "assistant", "content": "word " * tokens}, "finish_reason": "length"}
            return await _json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Connection": "close"})
        await response.prepare(request)
        pieces = tokens if self.token_s else 1
        for number in range(pieces):
            if self.token_s:
                await asyncio.sleep(self.token_s)
            delta = {"content": "word " * (tokens // pieces)} | ({"role": "assistant"} if not number else {})
            await response.write(_event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        timings = {"cache_n": 0, "prompt_n": prompt, "predicted_n": tokens}
        ends = [{**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}]
        if body.get("stream_options", {}).get("include_usage"):
            ends.append({**head, "choices": [], "usage": usage})
        ends[-1]["timings"] = timings
        await response.write(b"".join(map(_event, ends)) + b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _event(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


async def _json(said: object) -> web.StreamResponse:
    return web.json_response(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("slots", type=int)
    parser.add_argument("--token-ms", type=float, default=0.0)
    parser.add_argument("--models", default="")
    parser.add_argument("--swap-ms", type=float, default=0.0)
    said = parser.parse_args()
    back_end = BackEnd(said.slots, said.token_ms / 1000, tuple(filter(None, said.models.split(","))), said.swap_ms / 1000)
    web.run_app(back_end.application(), host="127.0.0.1", port=said.port, access_log=None, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
