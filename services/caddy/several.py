"""Asks several llama-servers the same thing at a time, and does not wait for one that is down while others have answered."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

PATIENCE_S = 2.0
"""How long the others may take once one has answered."""

T = TypeVar("T")


def each_of(endpoints: Sequence[str], ask: Callable[[str], T]) -> list[T]:
    """The answers, in the order of the servers. Raises what `ask` raised where none has answered."""
    if len(endpoints) < 2:
        return [ask(endpoint) for endpoint in endpoints]
    heard: queue.SimpleQueue[tuple[int, T | Exception]] = queue.SimpleQueue()
    for number, endpoint in enumerate(endpoints):
        threading.Thread(target=_ask, args=(heard, number, ask, endpoint), daemon=True).start()
    answers: dict[int, T] = {}
    why: Exception = ValueError("no server was named")
    until: float | None = None
    for _ in endpoints:
        try:
            number, said = heard.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(said, Exception):
            why = said
            continue
        answers[number] = said
        until = until or time.monotonic() + PATIENCE_S
    if not answers:
        raise why
    return [answers[number] for number in sorted(answers)]


def _ask(heard: queue.SimpleQueue[tuple[int, T | Exception]], number: int, ask: Callable[[str], T], endpoint: str) -> None:
    try:
        heard.put((number, ask(endpoint)))
    except Exception as error:
        heard.put((number, error))
