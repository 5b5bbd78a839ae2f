"""A request as any client sends it, and the answer without what differs from one to the next."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any

VARIES = frozenset({"id", "created", "created_at", "completed_at", "timings", "id_slot", "item_id", "call_id", "time_ms"})
"""Ids and times."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        """What is said in each `data:` that is JSON."""
        return [json.loads(line[6:]) for line in self.raw.splitlines() if line.startswith(b"data: {")]

    def lines(self) -> list[str]:
        """Of a stream each line but comments, else the whole: JSON in the order of its fields, ids and times starred."""
        is_stream = self.headers.get_content_type() == "text/event-stream"
        said = [line for line in self.raw.decode().split("\n") if line and not line.startswith(":")] if is_stream else [self.raw.decode()]
        return [_steady_line(line) for line in said]


def ask(url: str, path: str, body: Any, *, key: str = "", **headers: str) -> Answer:
    """`body` is bytes, or what is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": "application/json", "Connection": "close", **headers}
    if key:
        told["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, raw, told), timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def steady(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: "*" if name in VARIES else steady(value) for name, value in said.items()}
    return [steady(each) for each in said] if isinstance(said, list) else said


def _steady_line(line: str) -> str:
    data = line.removeprefix("data: ")
    return json.dumps(steady(json.loads(data))) if data.startswith(("{", "[")) and data != "[DONE]" else line
