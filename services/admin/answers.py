"""The JSON that callers get. A new field is one line here; mypy then names the place that fills it."""

from __future__ import annotations

from typing import TypedDict

ContextAnswer = TypedDict("ContextAnswer", {"model": str, "ctx-size": int, "was": int | None, "note": str})
"""To /ctx. `was` is null where the model's own context held."""


class RestartAnswer(TypedDict):
    """To /restart: the units, once all servers answer."""

    restarted: list[str]


class ErrorDetail(TypedDict):
    message: str


class ErrorAnswer(TypedDict):
    """To anything that is refused or fails, as OpenAI's API has it."""

    error: ErrorDetail


class Refusal(Exception):
    """The message of an ErrorAnswer, with its HTTP status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
