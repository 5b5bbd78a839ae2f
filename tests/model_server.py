"""A real HTTP server for tests to fetch models from: it keeps what it was asked, and can fail in the ways that servers fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!doctype html><html><body>Please log in.</body></html>"


@dataclass(frozen=True)
class Request:
    path: str
    begins: int
    ends: int | None
    """From Range; 0 and None without."""
    authorization: str


@dataclass
class ModelServer:
    """`files` is path → content. `cuts` is path → after how many bytes each of the next answers ends. `statuses` is path → a status that is
    answered in place of the file; 200 is a web page. `moved` is path → where it is redirected. `tokens` is path prefix → the token that is
    to be known.

    `repositories` is name → file → content: they are listed as Hugging Face does, and lie at `/NAME/resolve/COMMIT/FILE`.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    port: int = 0
    ranges: bool = True

    def asked_for(self, path: str) -> list[Request]:
        return [each for each in self.asked if each.path == path]

    def forget(self) -> None:
        """What it was asked, and how it was to fail."""
        for each in (self.asked, self.cuts, self.statuses, self.moved, self.tokens):
            each.clear()
        self.ranges = True

    def content(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        if found := re.fullmatch(rf"/([^/]+/[^/]+)/resolve/({COMMIT}|main)/(.*)", path):
            return self.repositories.get(found[1], {}).get(found[3])
        return None

    def listing(self, path: str) -> object | None:
        """What Hugging Face's API answers; https://huggingface.co/docs/hub/api."""
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        files = self.repositories.get(found[1]) if found else None
        if not found or files is None or found[3] not in ("main", COMMIT):
            return None
        if found[2] == "revision":
            return {"id": found[1], "sha": COMMIT}
        return [_entry(name, content) for name, content in files.items()]


def _entry(name: str, content: bytes) -> dict[str, object]:
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    small = {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
    return {**small, "lfs": lfs} if name.endswith(".gguf") else small


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: ModelServer

    def do_GET(self) -> None:
        served, path = self.served, unquote(urlsplit(self.path).path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begins, ends = (int(asked[1]), int(asked[2]) if asked[2] else None) if asked else (0, None)
        served.asked.append(Request(path, begins, ends, self.headers.get("Authorization", "")))
        token = next((token for prefix, token in served.tokens.items() if path.startswith(prefix)), "")
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return self._send(401, b"no")
        if path in served.moved:
            return self._send(302, b"", Location=served.moved[path])
        if status := served.statuses.get(path):
            return self._send(status, PAGE if status == 200 else b"no", **{"Content-Type": "text/html; charset=utf-8"})
        if (listing := served.listing(path)) is not None:
            return self._send(200, json.dumps(listing).encode(), **{"Content-Type": "application/json"})
        content = served.content(path)
        if content is None:
            return self._send(404, b"no such file")
        if asked and served.ranges:
            if begins >= len(content):
                return self._send(416, b"")
            body = content[begins : ends + 1 if ends is not None else None]
            between = f"bytes {begins}-{begins + len(body) - 1}/{len(content)}"
            return self._send(206, body, cut=self._cut(path), **{"Content-Range": between})
        return self._send(200, content, cut=self._cut(path))

    def _cut(self, path: str) -> int | None:
        cuts = self.served.cuts.get(path)
        return cuts.pop(0) if cuts else None

    def _send(self, status: int, body: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """A server on every address of this machine, at a port of its own."""
    served = ModelServer()
    with ThreadingHTTPServer(("0.0.0.0", 0), type("Handler", (_Handler,), {"served": served})) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()


def gguf(path: Path, name: str, padding: int = 0, parts: int = 1) -> list[bytes]:
    """The tiny model under another name, with `padding` bytes at its end that nobody reads, in `parts` as llama-gguf-split makes them."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    from control.models.local import tiny_model

    reader = GGUFReader(tiny_model())
    tensors = -(-len(reader.tensors) // parts)
    writer = GGUFWriter(path / f"{name}.gguf", "llama", split_max_tensors=tensors if parts > 1 else 0)
    new = {"general.name": MetadataDetails(GGUFValueType.STRING, name)}
    copy_with_new_metadata(reader, writer, new, [])
    made = sorted(path.glob(f"{name}*.gguf"))
    assert len(made) == parts, made
    with made[-1].open("ab") as file:
        file.write(hashlib.shake_128(name.encode()).digest(padding))
    return [each.read_bytes() for each in made]
