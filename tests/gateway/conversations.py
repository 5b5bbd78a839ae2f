"""Users who talk with a model over each of the gateway's routes, and what of each turn came out of a cache."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

import aiohttp

from tests.gateway.process import key_of

Route = Literal["chat", "messages", "responses", "completions"]
ROUTES: tuple[Route, ...] = ("chat", "messages", "responses", "completions")
PATHS: dict[Route, str] = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "completions": "/v1/completions",
}
SLACK = 2
"""Tokens: the end of one text and the beginning of the next may be read as one."""


@dataclass
class Turn:
    """What was sent, what came, and the prompt as the model's template writes it. `counted` are its tokens, `cached` those of a cache."""

    path: str
    body: dict[str, Any]
    said: str
    prompt: str
    counted: int
    cached: int


@dataclass
class Talk:
    """One conversation of a user. Every answer is sampled with a seed of its own."""

    user: str
    route: Route = "chat"
    system: str = "You answer in few words."
    turns: list[Turn] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)

    async def say(self, session: aiohttp.ClientSession, url: str, words: str, **more: Any) -> Turn:
        self.messages.append({"role": "user", "content": words})
        body = {**self._body(), "model": "tiny", "temperature": 1.5, "seed": 1000 + len(self.turns), **more}
        async with session.post(url + PATHS[self.route], json=body, headers=bearer(self.user)) as answer:
            raw = await answer.text()
            assert answer.status == 200, raw
        said, counted, cached = _read(self.route, json.loads(raw))
        turn = Turn(PATHS[self.route], body, said, self._prompt(), counted, cached)
        self.turns.append(turn)
        self.messages.append({"role": "assistant", "content": said})
        return turn

    def _body(self) -> dict[str, Any]:
        match self.route:
            case "chat":
                return {"messages": [{"role": "system", "content": self.system}, *self.messages], "max_tokens": 12}
            case "messages":
                return {"system": self.system, "messages": list(self.messages), "max_tokens": 12}
            case "responses":
                return {"instructions": self.system, "input": [_item(each) for each in self.messages], "max_output_tokens": 12}
            case "completions":
                return {"prompt": self._prompt(), "max_tokens": 12}

    def _prompt(self) -> str:
        """As tiny_model.CHAT_TEMPLATE writes it."""
        spoken = [{"role": "system", "content": self.system}, *self.messages]
        return "".join(f"{each['role']}: {each['content']}\n" for each in spoken) + "assistant:"


def _item(message: dict[str, str]) -> dict[str, Any]:
    """As the Responses API has it."""
    kind = "output_text" if message["role"] == "assistant" else "input_text"
    return {"type": "message", "role": message["role"], "content": [{"type": kind, "text": message["content"]}]}


def _read(route: Route, answer: dict[str, Any]) -> tuple[str, int, int]:
    """Its text, the tokens of its prompt, and how many of them came out of a cache, as llama-server counts them."""
    usage = answer["usage"]
    match route:
        case "chat":
            return answer["choices"][0]["message"]["content"], usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
        case "completions":
            return answer["choices"][0]["text"], usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
        case "responses":
            text = "".join(part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"])
            return text, usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
        case "messages":
            text = "".join(block["text"] for block in answer["content"] if block["type"] == "text")
            cached = usage.get("cache_read_input_tokens", 0)
            return text, usage["input_tokens"] + cached, cached


def bearer(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key_of(user)}"}


def paragraph(seed: object, letters: int = 200) -> str:
    """Of words that no other seed gives."""
    chance = random.Random(str(seed))
    return "".join(chance.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(letters))


@dataclass
class Tokens:
    """How llama-server cuts texts."""

    session: aiohttp.ClientSession
    url: str
    known: dict[str, list[int]] = field(default_factory=dict)

    async def of(self, text: str) -> list[int]:
        if text not in self.known:
            async with self.session.post(f"{self.url}/tokenize", json={"content": text, "add_special": True}) as answer:
                self.known[text] = (await answer.json())["tokens"]
        return self.known[text]

    async def in_common(self, text: str, others: Sequence[str]) -> int:
        """The longest beginning that the text shares with one of the others, in tokens."""
        mine, longest = await self.of(text), 0
        for other in others:
            same = takewhile(lambda pair: pair[0] == pair[1], zip(mine, await self.of(other), strict=False))
            longest = max(longest, sum(1 for _ in same))
        return longest


async def check_only_their_own(tokens: Tokens, talks: Sequence[Talk]) -> None:
    """No turn was given more out of a cache than it has in common with what the same user said, or was answered, before it.

    Talks of one user are to be in the order in which they were held."""
    before: dict[str, list[str]] = {}
    for talk in talks:
        mine = before.setdefault(talk.user, [])
        for turn in talk.turns:
            own = await tokens.in_common(turn.prompt, mine)
            assert turn.cached <= own + (SLACK if own else 0), f"{talk.user} ({talk.route}): {turn.cached} cached, {own} are its own"
            mine.append(turn.prompt + turn.said)


async def check_as_of_a_fresh_server(session: aiohttp.ClientSession, url: str, talks: Sequence[Talk]) -> None:
    """Every answer is what llama-server says when it reads the whole prompt anew."""
    for talk in talks:
        for turn in talk.turns:
            async with session.post(url + turn.path, json={**turn.body, "cache_prompt": False}) as answer:
                said, _, _ = _read(talk.route, json.loads(await answer.text()))
            assert said == turn.said, f"{talk.user} ({talk.route})"


async def share_cached(tokens: Tokens, talks: Sequence[Talk]) -> float:
    """Of the tokens that each turn has in common with the one before it, the part that came out of a cache."""
    could, did = 0, 0
    for talk in talks:
        for before, turn in zip(talk.turns, talk.turns[1:], strict=False):
            common = await tokens.in_common(turn.prompt, [before.prompt])
            could += common
            did += min(turn.cached, common)
    return did / could
