"""Many users at once: what each asks, and what each is answered."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.gateway.process import key_of


@dataclass
class Said:
    """By user the number of answers of each status; 0 is a connection that broke off, 1 a stream that ended with an error."""

    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    retry_after: list[int] = field(default_factory=list)

    def all(self) -> Counter[int]:
        return sum(self.statuses.values(), Counter())


async def ask_all(url: str, asked: Sequence[tuple[str, int]], *, at_once: int, model: str = "tiny", again: bool = False) -> Said:
    """A chat for each (user, tokens), in their order, `at_once` at a time, half of them streamed. With `again` a request that never got an
    answer, as nobody listened, is sent until it gets one."""
    said, waiting = Said(), list(reversed(list(enumerate(asked))))

    async def caller(session: aiohttp.ClientSession) -> None:
        while waiting:
            number, (user, tokens) = waiting.pop()
            body = body_of(user, tokens, number, model)
            while (status := await _ask(session, url, key_of(user), body, said)) is None:
                assert again, "nobody listens"
                await asyncio.sleep(0.05)
            said.statuses[user][status] += 1

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        await asyncio.gather(*(caller(session) for _ in range(at_once)))
    return said


async def ask_once(url: str, user: str, held: int) -> int:
    """The status of a request for which the gateway holds so many tokens: of its bytes a third, and what it may be answered."""
    body = next(body for tokens in range(1, held) if len(json.dumps(body := body_of(user, tokens))) // 3 + tokens == held)
    return await ask_with(url, key_of(user), body)


async def ask_with(url: str, key: str, body: object = None) -> int:
    """The status of a request with a key, whoever has it."""
    async with aiohttp.ClientSession() as session:
        status = await _ask(session, url, key, body or body_of("anybody", 8), Said())
    assert status is not None
    return status


def body_of(user: str, tokens: int, number: int = 1, model: str = "tiny") -> dict[str, object]:
    messages = [{"role": "user", "content": f"Request {number} of {user}"}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "stream": number % 2 == 0, "user": user}


async def _ask(session: aiohttp.ClientSession, url: str, key: str, body: object, said: Said) -> int | None:
    """The status; None where there was nobody to take the request."""
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
            text = await answer.read()
            if answer.status == 429:
                said.retry_after.append(int(answer.headers["Retry-After"]))
            if answer.status == 200 and (b'"error"' in text or not text):
                return 1
            return answer.status
    except aiohttp.ClientConnectorError:
        return None
    except aiohttp.ClientError:
        return 0
