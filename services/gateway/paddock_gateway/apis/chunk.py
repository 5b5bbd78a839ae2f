"""An event of a streamed chat, with what the gateway's own APIs read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from paddock_gateway.errors import Failure

Count = Annotated[int, Meta(ge=0)]


class Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None


class Choice(Struct):
    delta: Delta | None = None
    finish_reason: str | None = None


class Usage(Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Chunk(Struct):
    choices: tuple[Choice, ...] | None = ()
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """What it adds to the answer."""
        return "".join(choice.delta.content or "" for choice in self.choices or () if choice.delta)

    @property
    def begins(self) -> bool:
        """Whether it has a token: of the answer, or of the thoughts before it."""
        return any(choice.delta and (choice.delta.content or choice.delta.reasoning_content) for choice in self.choices or ())

    @property
    def finish_reason(self) -> str | None:
        return next((choice.finish_reason for choice in self.choices or () if choice.finish_reason), None)

    @property
    def counts(self) -> dict[str, int]:
        """The three counts of its `usage`; empty where it has none."""
        if not self.usage:
            return {}
        prompt, made = self.usage.prompt_tokens, self.usage.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def chunk(said: Mapping[str, Any]) -> Chunk:
    """Raises Failure, 502, for what is no event of a chat."""
    try:
        return convert(said, Chunk)
    except ValidationError:
        raise Failure(502, "The back end's events make no answer.", "backend_failed") from None
