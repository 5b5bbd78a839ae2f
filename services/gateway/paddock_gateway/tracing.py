"""Traces of requests for Langfuse, over OTLP: who asked which model, how long it took, and how many tokens. Nothing of what was said.

What Langfuse makes of a span's attributes: https://langfuse.com/integrations/native/opentelemetry. The JSON is that of
https://github.com/open-telemetry/opentelemetry-proto/blob/main/docs/specification.md#json-protobuf-encoding.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from paddock_gateway.contract import Observer, Row
from paddock_gateway.settings import SettingsError, Tracing

logger = logging.getLogger(__name__)

PATH = "/api/public/otel/v1/traces"
WAITING = 5000
"""Requests in memory, some 3 MiB of them. What comes beyond is dropped, and counted."""
BATCH = 200
EVERY_S = 1.0
AGAIN_S, LONGEST_AGAIN_S = 1.0, 60.0
"""After a refusal it waits twice as long as before."""
ANSWER_S = 10.0
CLOSING_S = 5.0


@dataclass(frozen=True, slots=True)
class TraceFigures:
    """Requests since the start, but for `waiting`. `away`: Langfuse does not take them."""

    sent: int
    dropped: int
    waiting: int
    away: bool


class Traces:
    """An Observer. `then` hears of each answer and retry after it: the access log. Raises SettingsError where its key cannot be read."""

    def __init__(self, settings: Tracing, then: Observer) -> None:
        self._then, self._url = then, settings.url + PATH
        try:
            key = Path(settings.secret_key_file).read_text().strip()
        except OSError as error:
            raise SettingsError(f"tracing.secret_key_file: {settings.secret_key_file}: {error.strerror}") from None
        keys = base64.b64encode(f"{settings.public_key}:{key}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {keys}",
            "Content-Type": "application/json",
            "x-langfuse-ingestion-version": "4",
        }
        self._waiting: deque[Row] = deque()
        self._closing = asyncio.Event()
        self._sent = self._dropped = 0
        self._away = self._dropping = False
        self._task: asyncio.Task[None] | None = None

    def answered(self, row: Row) -> None:
        """Whoever has no key has no trace: nobody is to fill the room for those who have one."""
        if not row.username:
            pass
        elif len(self._waiting) >= WAITING:
            self._drop(1, f"{WAITING} wait in memory already")
        else:
            self._waiting.append(row)
        self._then.answered(row)

    def retried(self, backend: str) -> None:
        self._then.retried(backend)

    def figures(self) -> TraceFigures:
        return TraceFigures(self._sent, self._dropped, len(self._waiting), self._away)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_sending())

    async def close(self) -> None:
        """Sends what waits, for CLOSING_S at most."""
        self._closing.set()
        if self._task:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._task, CLOSING_S)
        if self._waiting:
            self._drop(len(self._waiting), "the gateway ends")
            self._waiting.clear()

    async def _keep_sending(self) -> None:
        """Until it is closed and nothing waits, or Langfuse takes nothing any more."""
        timeout, again_s = aiohttp.ClientTimeout(total=ANSWER_S), AGAIN_S
        # Of Langfuse's answers nothing is needed, and no proxy of the environment's is to see its key.
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while self._waiting or not self._closing.is_set():
                if await self._send(session):
                    pause_s, again_s = (0.0 if len(self._waiting) >= BATCH else EVERY_S), AGAIN_S
                elif self._closing.is_set():
                    return
                else:
                    pause_s, again_s = again_s, min(2 * again_s, LONGEST_AGAIN_S)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), pause_s)

    async def _send(self, session: aiohttp.ClientSession) -> bool:
        """One batch, if any waits. False where Langfuse does not answer, or is too busy: the batch waits on."""
        rows = [self._waiting[at] for at in range(min(BATCH, len(self._waiting)))]
        if not rows:
            return True
        try:
            said = orjson.dumps(exported(rows))
            async with session.post(self._url, data=said, headers=self._headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            return self._is_away(f"{type(error).__name__}: {error}")
        except Exception:  # a fault of this program's own must not end the tracing
            logger.exception("Traces could not be written")
            status = 400
        if status == 429 or status >= 500:
            return self._is_away(f"it answers {status}")
        for _ in rows:
            self._waiting.popleft()
        if status >= 300:
            self._away = True
            self._drop(len(rows), f"Langfuse refuses them with {status}")
            return True
        if self._away:
            logger.warning("Traces go to Langfuse again")
        self._away = self._dropping = False
        self._sent += len(rows)
        return True

    def _is_away(self, why: str) -> bool:
        if not self._away:
            logger.warning("Langfuse takes no traces, which wait in memory: %s", why)
        self._away = True
        return False

    def _drop(self, rows: int, why: str) -> None:
        if not self._dropping:
            self._dropping = True
            logger.error("Traces are dropped, and counted: %s", why)
        self._dropped += rows


def exported(rows: list[Row]) -> Mapping[str, Any]:
    """An ExportTraceServiceRequest: a trace of one span for each request."""
    resource = {"attributes": _attributes({"service.name": "paddock-gateway"})}
    spans = {"scope": {"name": "paddock-gateway"}, "spans": list(map(_span, rows))}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [spans]}]}


def _span(row: Row) -> Mapping[str, Any]:
    failed = row.status_code >= 400
    said: dict[str, str | int] = {
        "langfuse.trace.name": row.path,
        "langfuse.observation.type": "generation" if row.model else "span",
        "langfuse.observation.level": "ERROR" if failed else "DEFAULT",
        "langfuse.observation.usage_details": orjson.dumps(
            {
                "input": row.prompt_tokens - min(row.cached_tokens, row.prompt_tokens),
                "input_cached_tokens": row.cached_tokens,
                "output": row.completion_tokens,
            }
        ).decode(),
        "langfuse.observation.metadata.backend": row.backend,
        "langfuse.observation.metadata.request_id": row.request_id,
        "langfuse.observation.metadata.queued_ms": round(row.queued_ms),
        "http.response.status_code": row.status_code,
    }
    if failed:
        said["langfuse.observation.status_message"] = f"HTTP {row.status_code}"
    if row.model:
        said["langfuse.observation.model.name"] = row.model
    if row.username:
        said["user.id"] = row.username
    if row.ttft_ms is not None:
        said["langfuse.observation.completion_start_time"] = _moment(row.created_at + row.ttft_ms / 1000)
    return {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": row.path,
        "kind": 2,  # a server's
        "startTimeUnixNano": str(round(row.created_at * 1e9)),
        "endTimeUnixNano": str(round((row.created_at + row.duration_ms / 1000) * 1e9)),
        "attributes": _attributes(said),
        "status": {"code": 2 if failed else 1},
    }


def _attributes(said: Mapping[str, str | int]) -> list[Mapping[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": _text(value)}}
        for key, value in said.items()
    ]


def _text(said: str) -> str:
    """What JSON can hold: half a surrogate pair it cannot."""
    return said[:512].encode("utf-8", "replace").decode()


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
