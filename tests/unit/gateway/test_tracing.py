"""Traces for Langfuse: what one has, and what becomes of them while Langfuse is away, refuses them, or is slow."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from paddock_gateway import tracing
from paddock_gateway.contract import Row
from paddock_gateway.settings import SettingsError, Tracing
from paddock_gateway.tracing import PATH, Traces
from tests.unit.gateway.apis.test_gateway_metrics import row

SECRET = "sk-of-the-project"
AUTHORIZATION = f"Basic {base64.b64encode(f'pk-lf-1:{SECRET}'.encode()).decode()}"


@dataclass
class Heard:
    """The Observer behind it."""

    rows: list[Row] = field(default_factory=list)

    def answered(self, row: Row) -> None:
        self.rows.append(row)

    def retried(self, backend: str) -> None:
        self.rows.append(row(backend=backend))


@dataclass
class Langfuse:
    """As much of it as takes traces: `spans` are those that it has, `answers` the statuses that it gives before 207."""

    port: int = 0
    spans: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    asked: int = 0
    slow_s: float = 0.0

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.slow_s)
        text = await request.text()
        Parse(text, ExportTraceServiceRequest())  # raises for what is no such request
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        self.headers.append(dict(request.headers))
        self.spans += [
            span for resource in json.loads(text)["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]
        ]
        return web.Response(status=207)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post(PATH, self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()


def traces(directory: Path, port: int, then: Heard | None = None) -> Traces:
    (directory / "key").write_text(f"{SECRET}\n")
    return Traces(Tracing(f"http://127.0.0.1:{port}", "pk-lf-1", str(directory / "key")), then or Heard())


async def until(holds: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EVERY_S": 0.02, "AGAIN_S": 0.05, "LONGEST_AGAIN_S": 0.1, "CLOSING_S": 0.5}.items():
        monkeypatch.setattr(tracing, name, value)


def test_a_trace_says_who_asked_which_model_how_long_it_took_and_how_many_tokens(tmp_path: Path) -> None:
    async def work() -> Langfuse:
        langfuse = Langfuse()
        async with langfuse.listening():
            sending = traces(tmp_path, langfuse.port)
            sending.start()
            sending.answered(row(request_id="r-1"))
            await until(lambda: langfuse.spans)
            await sending.close()
        return langfuse

    langfuse = asyncio.run(work())
    (span,) = langfuse.spans
    assert langfuse.headers[0]["Authorization"] == AUTHORIZATION
    assert langfuse.headers[0]["x-langfuse-ingestion-version"] == "4"
    said = {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
    assert (said["user.id"], said["langfuse.observation.model.name"], said["langfuse.observation.type"]) == (
        "ann",
        "qwen2.5:3b",
        "generation",
    )
    assert json.loads(said["langfuse.observation.usage_details"]) == {"input": 20, "input_cached_tokens": 80, "output": 20}
    assert said["langfuse.observation.completion_start_time"] == "2023-11-14T22:13:20.200Z"
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 1_500_000_000
    assert (len(span["traceId"]), len(span["spanId"]), span["status"]) == (32, 16, {"code": 1})
    assert said["langfuse.observation.metadata.request_id"] == "r-1" and said["langfuse.observation.level"] == "DEFAULT"


def test_who_has_no_key_has_no_trace(tmp_path: Path) -> None:
    heard = Heard()
    sending = traces(tmp_path, 9, heard)
    sending.answered(row(username="", status_code=401))
    assert sending.figures().waiting == 0 and len(heard.rows) == 1


def test_a_request_that_failed_is_an_error_and_one_of_nobody_has_no_user() -> None:
    (span,) = tracing.exported([row(status_code=503, username="", model="", ttft_ms=None)])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    said = {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
    assert span["status"] == {"code": 2} and said["langfuse.observation.level"] == "ERROR"
    assert not {"user.id", "langfuse.observation.model.name", "langfuse.observation.completion_start_time"} & said.keys()


@pytest.mark.parametrize("answers", [[500, 503, 429], []], ids=["too busy", "not there"])
def test_while_langfuse_is_away_traces_wait_and_each_arrives_once(tmp_path: Path, answers: list[int]) -> None:
    async def work() -> tuple[Langfuse, Traces]:
        langfuse = Langfuse()
        async with langfuse.listening():
            pass  # it has a port now, and is away
        sending = traces(tmp_path, langfuse.port)
        sending.start()
        for number in range(450):
            sending.answered(row(request_id=str(number)))
        await until(lambda: sending.figures().away)
        langfuse.answers = list(answers)
        async with langfuse.listening():
            await until(lambda: len(langfuse.spans) >= 450)
            await sending.close()
        return langfuse, sending

    langfuse, sending = asyncio.run(work())
    ids = [next(e["value"]["stringValue"] for e in span["attributes"] if e["key"].endswith("request_id")) for span in langfuse.spans]
    assert ids == [str(number) for number in range(450)]
    assert (sending.figures().sent, sending.figures().dropped, sending.figures().away) == (450, 0, False)


def test_what_langfuse_refuses_is_dropped_and_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def work() -> tuple[Langfuse, Traces]:
        langfuse = Langfuse(answers=[401])
        async with langfuse.listening():
            sending = traces(tmp_path, langfuse.port)
            sending.start()
            sending.answered(row())
            await until(lambda: sending.figures().dropped == 1)
            assert sending.figures().away
            sending.answered(row())
            await until(lambda: langfuse.spans)
            await sending.close()
        return langfuse, sending

    langfuse, sending = asyncio.run(work())
    assert len(langfuse.spans) == 1 and (sending.figures().sent, sending.figures().away) == (1, False)


def test_each_time_that_traces_begin_to_be_dropped_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        langfuse = Langfuse(answers=[401, 401])
        async with langfuse.listening():
            sending = traces(tmp_path, langfuse.port)
            sending.start()
            for dropped, sent in ((1, 0), (2, 0), (2, 1), (3, 1)):
                if (dropped, sent) == (3, 1):
                    langfuse.answers = [403]
                sending.answered(row())
                await until(lambda: (sending.figures().dropped, sending.figures().sent) == (dropped, sent))  # noqa: B023
            await sending.close()

    asyncio.run(work())
    told = [each.getMessage() for each in caplog.records if "dropped" in each.getMessage() or "again" in each.getMessage()]
    assert told == [
        "Traces are dropped, and counted: Langfuse refuses them with 401",
        "Traces go to Langfuse again",
        "Traces are dropped, and counted: Langfuse refuses them with 403",
    ]


def test_more_than_find_room_are_dropped_and_no_request_waits(tmp_path: Path) -> None:
    heard = Heard()
    sending = traces(tmp_path, 9, heard)
    for _ in range(tracing.WAITING + 7):
        sending.answered(row())
    assert (sending.figures().waiting, sending.figures().dropped) == (tracing.WAITING, 7)
    assert len(heard.rows) == tracing.WAITING + 7


def test_a_gateway_that_ends_sends_what_waits_but_not_for_ever(tmp_path: Path) -> None:
    async def work(slow_s: float) -> tuple[Langfuse, Traces]:
        langfuse = Langfuse(slow_s=slow_s)
        async with langfuse.listening():
            sending = traces(tmp_path, langfuse.port)
            sending.start()
            for _ in range(300):
                sending.answered(row())
            await asyncio.wait_for(sending.close(), 5)
        return langfuse, sending

    langfuse, sending = asyncio.run(work(0.0))
    assert len(langfuse.spans) == 300 and sending.figures().dropped == 0
    _, sending = asyncio.run(work(2.0))
    assert (sending.figures().sent, sending.figures().dropped) == (0, 300)


def test_text_that_json_cannot_hold_breaks_no_batch(tmp_path: Path) -> None:
    request = tracing.exported([row(model="half \ud800 a pair", username="x" * 10_000)])
    Parse(tracing.orjson.dumps(request), ExportTraceServiceRequest())


def test_a_key_that_cannot_be_read_is_told_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tracing\.secret_key_file: .*/none: No such file"):
        Traces(Tracing("http://127.0.0.1:9", "pk-lf-1", str(tmp_path / "none")), Heard())
