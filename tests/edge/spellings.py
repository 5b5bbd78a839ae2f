"""Requests at the door of a client that is no administrator: what is open to it, and what is not, in every spelling of a path."""

from __future__ import annotations

OPEN = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/completion?x=/models/unload"),
    ("POST", "/v1/embeddings"),
    ("POST", "/rerank"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/apply-template"),
    ("POST", "/v1/audio/transcriptions"),
    ("GET", "/health"),
    ("HEAD", "/v1/health"),
    ("GET", "/"),
)

OF_ALL = (
    *("/models/load", "/models/unload", "/v1/stream", "/v1/streams/lookup", "/slots", "/slots/0", "/metrics", "/lora-adapters"),
    *("/cors-proxy", "/tools", "/v1/chat/completions/control"),
)
"""Routes that change or show what others have, or lead beyond the server."""

OTHERS = (
    *(("POST", path) for path in ("/models", "/v1/models", "/props", "/models/load", "/models/unload", "/v1/streams/lookup")),
    *(("POST", path) for path in ("/slots/0?action=save", "/lora-adapters", "/cors-proxy", "/tools", "/v1/chat/completions/control")),
    *(
        ("GET", path)
        for path in ("/v1/stream?conv_id=a", "/slots", "/slots?model=a", "/metrics", "/lora-adapters", "/cors-proxy?url=a", "/tools")
    ),
    *(
        ("GET", path)
        for path in ("//models", "/models/", "/MODELS", "/%6dodels", "/models;", "/models/.", "/v1//models", "/v1/models/endless")
    ),
    *(("GET", path) for path in ("/props/", "/Props", "/models%2fsse", "/slots/../models", "/models/x.json/..", "/%u0073lots")),
    *(("DELETE", path) for path in ("/models?model=a", "/v1/stream?conv_id=a")),
    *((method, "/v1/models") for method in ("PUT", "PATCH", "DELETE")),
    *((method, "/v1/chat/completions") for method in ("GET", "PUT", "DELETE", "OPTIONS", "CONNECT", "post")),
)
"""As llama.cpp's server.cpp has them, methods with it."""

SPELLINGS = (
    *("/models/unload/", "//models/unload", "/models//unload", "///models/unload", "/./models/unload", "/models/./unload"),
    *("/models/x/../unload", "/../models/unload", "/models/unload/.", "/models/unload/..", "/models/unload.", "/models/unload..."),
    *("/models/%75nload", "/%6dodels/unload", "/models%2funload", "/models%2Funload", "/%2fmodels/unload", "/models/unload%2f"),
    *("/%2e/models/unload", "/x/%2e%2e/models/unload", "/x/..%2fmodels/unload", "/x%2f..%2fmodels/unload", "/models%252funload"),
    *("/MODELS/UNLOAD", "/Models/Unload", "/models/unload;", "/models;x/unload", "/models/unload;/v1/chat/completions"),
    *("/models/unload%3b", "/models/unload%00", "/models/unload%20", "/models/unload%0d%0a", "/models/unload%3f", "/models/unload%23"),
    *(
        "/models%5cunload",
        "/models/unload&",
        "/models/unload,",
        "/models/unload?/v1/chat/completions",
        "/models/unload#/v1/chat/completions",
    ),
    *("/v1/chat/completions/../../../models/unload", "/v1/chat/completions/..%2f..%2f..%2fmodels/unload"),
    *(
        "/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/models/unload",
        "/v1/chat/completions/",
        "/v1/chat/completions/x",
        "//v1/chat/completions",
    ),
    *("/v1//chat/completions", "/V1/chat/completions", "/v1/chat/Completions", "/v1/chat/%63ompletions", "/v1/chat/completions;x"),
    *("/v1/chat/completions.", "/v1/chat/completions%00", "/v1/chat/completions%2f", "/v1/chat/completions/.", "/v1/./chat/completions"),
    *(
        "/x/../v1/chat/completions",
        "/v1/chat/completions%3fx",
        "/v1/chat/completions&x",
        "/x.js/../models/unload",
        "/models/unload/x.js/..",
    ),
)
"""Of a path that is closed, and of one that is open, as neither is written."""

WHOLE = ("https://{site}/models/unload", "http://{site}/models/unload", "https://elsewhere.example/models/unload", "//{site}/models/unload")
"""What a line of a request may have in place of a path, besides."""


def closed() -> tuple[tuple[str, str], ...]:
    return (*OTHERS, *(("POST", each) for each in SPELLINGS))
