"""Limits: requests and tokens in any window, and requests at once, of a user, of a model and of all together. Pure: no clock, no loop.

A request counts from the moment that it is accepted. One that is refused counts nowhere, nor does one that left, or was sent away,
before it ran.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paddock_gateway.contract import Ask
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Limits, Model


class Taken:
    """What one request took of one window. `counted` ends when it slides out."""

    __slots__ = ("at", "counted", "tokens")

    def __init__(self, at: float, tokens: int) -> None:
        self.at, self.tokens, self.counted = at, tokens, True


class Window:
    """The last `window_s` seconds, the earlier end not in it. Exact: each request is kept until it slides out."""

    __slots__ = ("entries", "requests", "tokens", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.entries: deque[Taken] = deque()
        self.requests = self.tokens = 0

    def slide(self, now: float) -> None:
        entries = self.entries
        while entries and (not entries[0].counted or entries[0].at + self.window_s <= now):
            self._drop(entries.popleft())

    def take(self, now: float, tokens: int) -> Taken:
        taken = Taken(now, tokens)
        self.entries.append(taken)
        self.requests += 1
        self.tokens += tokens
        return taken

    def settle(self, taken: Taken, tokens: int, now: float) -> None:
        self.slide(now)
        if taken.counted:
            self.tokens += tokens - taken.tokens
            taken.tokens = tokens

    def give_back(self, taken: Taken) -> None:
        self._drop(taken)
        if self.entries and self.entries[-1] is taken:
            self.entries.pop()
        elif len(self.entries) > 2 * self.requests + 64:
            self.entries = deque(entry for entry in self.entries if entry.counted)

    def frees(self, now: float, *, requests: int = 0, tokens: int = 0) -> float:
        """Seconds until so many requests or tokens have slid out."""
        for entry in self.entries:
            if entry.counted:
                requests -= 1
                tokens -= entry.tokens
            if requests <= 0 and tokens <= 0:
                return max(0.0, entry.at + self.window_s - now)
        return float(self.window_s)

    def _drop(self, taken: Taken) -> None:
        if taken.counted:
            taken.counted = False
            self.requests -= 1
            self.tokens -= taken.tokens


class Meter:
    """What a user, a model or all together have taken."""

    __slots__ = ("parallel", "window")

    def __init__(self) -> None:
        self.parallel = 0
        self.window = Window(60)


@dataclass(frozen=True)
class Claim:
    """A limit that a request comes under. `whose` is for people: `of user "ann"`."""

    subject: str
    whose: str
    limits: Limits


Held = list[tuple[Meter, Taken]]


class Limiter:
    def __init__(self, models: Mapping[str, Model], whole: Limits, limited: dict[str, int]) -> None:
        """`limited` counts refusals by kind."""
        self._of_models = {
            name: Claim(f"model:{name}", f'of model "{name}" (all users together)', model.limits)
            for name, model in models.items()
            if _limits(model.limits)
        }
        self._of_all = [Claim("all", "of this gateway (all users and models together)", whole)] if _limits(whole) else []
        self._limited = limited
        self._meters: dict[str, Meter] = {}
        self._sweep_at = 1024

    def claims(self, ask: Ask) -> list[Claim]:
        user, limits = ask.account.user, ask.account.limits
        of_user = [Claim(f"user:{user}", f'of user "{user}"', limits)] if _limits(limits) else []
        of_model = self._of_models.get(ask.model)
        return [*of_user, *([of_model] if of_model else ()), *self._of_all]

    def take(self, ask: Ask, claims: list[Claim], now: float, soon_s: Callable[[], float]) -> Held:
        """All of them or, where one refuses, none. Raises Failure: 429, or 413 where the request could never pass. `soon_s` is when one of
        those that run may be done."""
        if len(self._meters) >= self._sweep_at:
            self._sweep(now)
        meters = [self._meters.get(claim.subject) or self._meters.setdefault(claim.subject, Meter()) for claim in claims]
        for meter, claim in zip(meters, claims, strict=True):
            meter.window.window_s = claim.limits.window_s
            meter.window.slide(now)
            self._check(meter, claim, ask.tokens, now, soon_s)
        held = [(meter, meter.window.take(now, ask.tokens)) for meter in meters]
        for meter in meters:
            meter.parallel += 1
        return held

    def settle(self, held: Held, tokens: int | None, now: float) -> None:
        """It has run. None: the reservation stands."""
        for meter, taken in held:
            meter.parallel -= 1
            if tokens is not None:
                meter.window.settle(taken, tokens, now)

    def give_back(self, held: Held) -> None:
        """It has not run."""
        for meter, taken in held:
            meter.parallel -= 1
            meter.window.give_back(taken)

    def in_use(self) -> int:
        """Requests that count as at once, over all meters."""
        return sum(meter.parallel for meter in self._meters.values())

    def _check(self, meter: Meter, claim: Claim, tokens: int, now: float, soon_s: Callable[[], float]) -> None:
        limits, window = claim.limits, meter.window
        if limits.parallel is not None and meter.parallel >= limits.parallel:
            told = f"{meter.parallel} requests are under way or wait; the limit {claim.whose} is {limits.parallel} at once."
            raise self.refused("parallel", told, soon_s())
        if limits.requests is not None and window.requests >= limits.requests:
            wait_s = window.frees(now, requests=window.requests + 1 - limits.requests)
            told = f"The limit {claim.whose} is {limits.requests} requests in {limits.window_s} seconds, and {window.requests} are used."
            raise self.refused("requests", told, wait_s)
        if limits.tokens is None:
            return
        if tokens > limits.tokens:
            # 413, not 429: clients repeat a 429, and this one can never pass.
            self._limited["tokens"] = self._limited.get("tokens", 0) + 1
            told = (
                f"This request may take {tokens} tokens (prompt and answer). The limit {claim.whose} is {limits.tokens} "
                f"in {limits.window_s} seconds, so it can never pass. Shorten it, or ask for fewer tokens."
            )
            raise Failure(413, told, "request_too_large")
        if window.tokens + tokens > limits.tokens:
            wait_s = window.frees(now, tokens=window.tokens + tokens - limits.tokens)
            told = (
                f"The limit {claim.whose} is {limits.tokens} tokens in {limits.window_s} seconds; {window.tokens} are used or held, "
                f"and this request may take {tokens}."
            )
            raise self.refused("tokens", told, wait_s)

    def refused(self, kind: str, told: str, wait_s: float) -> Failure:
        self._limited[kind] = self._limited.get(kind, 0) + 1
        return Failure(429, f"{told} Try again in {max(1, math.ceil(wait_s))} s.", "rate_limit_exceeded", retry_after_s=wait_s)

    def _sweep(self, now: float) -> None:
        for meter in self._meters.values():
            meter.window.slide(now)
        self._meters = {name: meter for name, meter in self._meters.items() if meter.parallel or meter.window.entries}
        self._sweep_at = max(1024, 2 * len(self._meters))


def _limits(limits: Limits) -> bool:
    return limits.requests is not None or limits.tokens is not None or limits.parallel is not None
