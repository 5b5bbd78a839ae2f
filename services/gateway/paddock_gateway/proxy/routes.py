"""What of llama-server a caller can reach: these paths and no other. What goes up is the path written here, never the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["chat", "completion", "native", "responses", "messages", "transcription", "image", "plain"]
"""How the answer is written. `native` is llama-server's own format; `image` and `plain` are never a stream."""

Shape = Literal["openai", "anthropic"]


@dataclass(frozen=True)
class Route:
    path: str
    kind: Kind
    slots: bool = False
    """Whether llama-server honours `id_slot` and `cache_prompt` there: tools/server/server-context.cpp, handle_completions_impl. Responses
    are converted with every other field kept (server-chat.cpp); Messages keep neither, and go up as chat completions."""

    @property
    def generates(self) -> bool:
        return self.kind not in ("image", "plain")


_KINDS: dict[str, tuple[Kind, bool]] = {
    "/chat/completions": ("chat", True),
    "/responses": ("responses", True),
    "/audio/transcriptions": ("transcription", False),
    "/chat/completions/input_tokens": ("plain", False),
    "/responses/input_tokens": ("plain", False),
    "/rerank": ("plain", False),
    "/reranking": ("plain", False),
    "/embeddings": ("plain", False),
    "/images/generations": ("image", False),
}
"""With /v1 and without it."""

ROUTES: dict[str, Route] = {
    **{version + path: Route(version + path, kind, slots) for path, (kind, slots) in _KINDS.items() for version in ("", "/v1")},
    "/v1/completions": Route("/v1/completions", "completion", True),
    "/completion": Route("/completion", "native", True),
    "/completions": Route("/completions", "native", True),
    "/infill": Route("/infill", "native", True),
    "/embedding": Route("/embedding", "plain"),
    "/tokenize": Route("/tokenize", "plain"),
    "/detokenize": Route("/detokenize", "plain"),
    "/apply-template": Route("/apply-template", "plain"),
    "/v1/messages": Route("/v1/messages", "messages"),
    "/v1/messages/count_tokens": Route("/v1/messages/count_tokens", "plain"),
}

MODEL_LISTS = ("/v1/models", "/models")


def shape_of(path: str) -> Shape:
    """In which words a request for `path` is refused, listed or not."""
    return "anthropic" if path.startswith("/v1/messages") else "openai"
