"""Requests as the documents of other systems have them, for a shell: only ports and keys are filled in."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEALTH = "curl http://localhost:8000/health"

KEYS = (
    r"""curl -X POST http://localhost:8000/keys/generate \
  -H "Content-Type: application/json" \
  -d '{"owner": "my-device"}'
""",
    r"""curl -X POST http://localhost:8000/keys/generate \
  -H "Content-Type: application/json" \
  -d '{"owner": "External Device 1"}'
""",
)

STREAMED = (
    r"""curl -N -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "Explain gravity in one sentence.",
    "max_tokens": 96,
    "stream": true
  }'
""",
    r"""curl -N -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "Write a haiku about coding",
    "system": "You are a creative writing assistant",
    "max_tokens": 100,
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 40,
    "stop": ["\n\n"],
    "stream": true
  }'
""",
    r"""curl -N -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{"prompt": "Explain gravity in one sentence.", "stream": true}'
""",
)

WHOLE = (
    r"""curl -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "What is 2+2?",
    "max_tokens": 32,
    "stream": false
  }'
""",
    r"""curl -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "What is photosynthesis?",
    "system": "You are a science teacher explaining to a 5-year-old. Use simple words and be enthusiastic.",
    "max_tokens": 96,
    "stream": false
  }'
""",
    r"""curl -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{"prompt": "What is 2+2?", "stream": false}'
""",
    r"""curl -X POST http://localhost:8000/generate \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "Tell me about the solar system",
    "system": "You are an enthusiastic astronomy professor. Be engaging and use analogies.",
    "stream": false
  }'
""",
)

BENCHMARK = r"""curl -X POST http://localhost:8000/benchmark \
  -H "Content-Type: application/json" \
  -H "X-API-Key: YOUR_API_KEY" \
  -d '{
    "prompt": "Explain photosynthesis in two short sentences.",
    "max_tokens": 160,
    "runs": 2,
    "context_sizes": [512, 1024]
  }'
"""

BODIES = {
    "/generate": r"""{
  "prompt": "Explain gravity in one sentence.",
  "system": "You are a helpful assistant",
  "max_tokens": 160,
  "temperature": 0.7,
  "top_p": 0.9,
  "top_k": 40,
  "stop": ["\n"],
  "stream": true
}""",
    "/benchmark": """{
  "prompt": "Explain photosynthesis in two short sentences.",
  "max_tokens": 160,
  "temperature": 0.2,
  "top_p": 0.9,
  "top_k": 40,
  "runs": 2,
  "context_sizes": [512, 1024]
}""",
}
"""By path: what a body may have."""

LISTS = (
    r"""curl -s http://0.0.0.0:8000/v1/models \
  -H "Authorization: Bearer $LLAMA_SERVER_API_KEY"
""",
    r"""curl -s http://0.0.0.0:8001/v1/models \
  -H "Authorization: Bearer <USER_KEY>"
""",
    r"""curl -s http://127.0.0.1:8001/v1/models \
  -H "Authorization: Bearer <USER_KEY>"
""",
)

CHATS = (
    r"""curl -s http://0.0.0.0:8000/v1/chat/completions \
  -H "Authorization: Bearer $LLAMA_SERVER_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
    "messages": [{"role": "user", "content": "Say hello in one sentence."}]
  }'
""",
    r"""curl -s http://127.0.0.1:8001/v1/chat/completions \
  -H "Authorization: Bearer <USER_KEY>" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf",
    "messages": [{"role": "user", "content": "Say hello in one sentence."}]
  }'
""",
)

KEY_GENERATE = r"""curl -X POST http://localhost:4000/key/generate \
  -H "Authorization: Bearer $MASTER_KEY" \
  -d '{"models":["heartcode-chat-sfw","heartcode-chat-nsfw","heartcode-embed","heartcode-image"],"key_alias":"test"}'
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Their names in small letters."""
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> Iterator[tuple[str, Any]]:
        """Name and data of each event of a stream."""
        for event in self.text.split("\n\n"):
            if found := re.fullmatch(r"event: (\w+)\ndata: (.*)", event):
                yield found[1], json.loads(found[2])


def curl(command: str, port: int, directory: Path, key: str = "") -> Answer:
    """What a line for a shell brings from the gateway at `port`. How curl says the status stands in its own file of settings."""
    (directory / ".curlrc").write_text(f'silent\nshow-error\nmax-time = 120\ndump-header = "{directory / "headers"}"\n')
    filled = re.sub(r"(http://[\w.]+):\d+/", rf"\1:{port}/", command).replace("YOUR_API_KEY", key).replace("<USER_KEY>", key)
    variables = {"HOME": str(directory), "CURL_HOME": str(directory), "MASTER_KEY": key, "LLAMA_SERVER_API_KEY": key}
    done = subprocess.run(
        ["sh", "-eu", "-c", filled],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    first, *lines = (directory / "headers").read_text().split("\n\n")[0].splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Answer(int(first.split()[1]), headers, done.stdout)


def post(path: str, body: Any, port: int, directory: Path, key: str = "") -> Answer:
    """A request of the documents' kind with another body, which may be longer than a line can be."""
    (directory / "body").write_text(body if isinstance(body, str) else json.dumps(body))
    sent = f'-H "Content-Type: application/json" -H "X-API-Key: {key}" -d @{directory / "body"}'
    return curl(f"curl -X POST http://localhost:{port}{path} {sent}", port, directory)


def sampled(url: str) -> Any:
    """The parameters with which a llama-server has sampled the last request that it got."""
    with urllib.request.urlopen(f"{url}/slots", timeout=10) as answer:
        return max((slot for slot in json.load(answer) if "id_task" in slot), key=lambda slot: slot["id_task"])["params"]


def logged(directory: Path, number: int, **wanted: str) -> list[dict[str, Any]]:
    """Rows of llama_requests, the oldest first, as soon as so many have this path or user."""
    ((column, value),) = wanted.items()
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with closing(sqlite3.connect(directory / "gateway.db")) as database:
            database.row_factory = sqlite3.Row
            found = database.execute(f"SELECT * FROM llama_requests WHERE {column} = ? ORDER BY created_at", (value,)).fetchall()
        if len(found) >= number:
            return [dict(row) for row in found]
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} rows of {value}, not {number}")
