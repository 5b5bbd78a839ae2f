"""How fast a back end has answered of late, and so whether an answer is over before it matters that its caller left.

llama-server looks whether the reader of an unstreamed answer has gone when nobody has got a result for a second (recv_with_timeout in
tools/server/server-queue.cpp): beside other work it writes the answer to its end. That is no loss where the end is near.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from paddock_gateway.contract import Used

SOON_S = 1.0
"""A caller who leaves frees the slot within this time."""

KNOWN_S = 60.0
"""So long the latest answer tells something of the next: the model may have been unloaded since, or the machine have other work."""

RECENT = 0.2
"""The weight of the latest answer."""

MANY = 64
"""Tokens of a prompt that were read in batches. Fewer are read no faster than an answer is written."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens that a request may take at most."""

    prompt: int
    answer: int | None
    """None: as many as the model has room for, or more than one answer."""


class Pace:
    """Of one model at one back end. What it takes is never less than what is worked out here: all the time that an answer took is counted
    to its own tokens, and to those of its prompt again."""

    __slots__ = ("_answer_s", "_known_until", "_prompt_s")

    def __init__(self) -> None:
        self._answer_s = self._prompt_s = 0.0
        """Of one token."""
        self._known_until = float("-inf")

    def took(self, seconds: float, used: Used) -> None:
        """A whole answer."""
        now, read = time.monotonic(), used.prompt_tokens - used.cached_tokens
        weight = RECENT if now < self._known_until else 1.0
        if used.completion_tokens <= 0:
            return
        self._answer_s += (seconds / used.completion_tokens - self._answer_s) * weight
        if weight == 1.0:
            self._prompt_s = self._answer_s
        if read >= MANY:
            self._prompt_s += (seconds / read - self._prompt_s) * weight
        self._known_until = now + KNOWN_S

    def soon(self, size: Size) -> bool:
        if size.answer is None or time.monotonic() >= self._known_until:
            return False
        return size.prompt * min(self._prompt_s, self._answer_s) + size.answer * self._answer_s <= SOON_S
