"""Metrics: what they count, and that no caller makes a series."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paddock_gateway.contract import Figures, Row
from paddock_gateway.metrics import Metrics
from paddock_gateway.tracing import TraceFigures, Traces
from tests.unit.gateway.apis.stubs import Silence, Stage, configuration


def row(**changes: Any) -> Row:
    least: dict[str, Any] = {"username": "ann", "path": "/v1/chat/completions", "model": "qwen2.5:3b", "backend": "one", "status_code": 200}
    times: dict[str, Any] = {"duration_ms": 1500.0, "ttft_ms": 200.0, "queued_ms": 30.0, "created_at": 1.7e9}
    counts = {"prompt_tokens": 100, "cached_tokens": 80, "completion_tokens": 20, "request_bytes": 300, "response_bytes": 900}
    return Row(**{**least, **times, **counts, **changes})


@dataclass
class KeptFigures:
    written: int = 7
    spooled: int = 2
    dropped: int = 1
    waiting: int = 3
    spool_bytes: int = 4
    away: bool = True


class KeptLog(Silence):
    def figures(self) -> KeptFigures:
        return KeptFigures()


class KeptTraces(Traces):
    """Of a Langfuse that is away."""

    def __init__(self) -> None:
        pass

    def figures(self) -> TraceFigures:
        return TraceFigures(sent=5, dropped=2, waiting=1, away=True)


def test_the_figures_of_traces_are_there_where_some_are_sent() -> None:
    metrics = Metrics(configuration(), traces=KeptTraces())
    found = samples(page(metrics))
    assert [found[(f"traces_{name}", frozenset())] for name in ("sent_total", "dropped_total", "waiting", "up")] == [5, 2, 1, 0]
    assert not [name for name, _ in samples(page(Metrics(configuration()))) if name.startswith("traces_")]


def page(metrics: Metrics, stage: Stage | None = None) -> str:
    stage = stage or Stage(observer=metrics)
    return asyncio.run(metrics.text(stage.parts)).decode()


def samples(text: str) -> dict[tuple[str, frozenset[str]], float]:
    """By name and label values."""
    return {
        (sample.name.removeprefix("paddock_gateway_"), frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_answer_counts_by_model_back_end_and_status() -> None:
    metrics = Metrics(configuration())
    metrics.answered(row())
    metrics.answered(row(model="default"))
    metrics.answered(row(status_code=502, prompt_tokens=0, cached_tokens=0, completion_tokens=0, ttft_ms=None))
    metrics.retried("one")
    found = samples(page(metrics))
    of = frozenset({"qwen2.5:3b", "one"})
    assert found["requests_total", of | {"200"}] == 2
    assert found["requests_total", of | {"502"}] == 1
    assert (found["prompt_tokens_total", of], found["cached_tokens_total", of], found["completion_tokens_total", of]) == (200, 160, 40)
    assert (found["request_duration_seconds_count", of], found["request_duration_seconds_sum", of]) == (3, 4.5)
    assert found["first_token_seconds_count", of] == 2
    assert found["queue_wait_seconds_count", frozenset({"qwen2.5:3b"})] == 3
    assert found["retries_total", frozenset({"one"})] == 1


def test_what_a_caller_makes_up_makes_no_series() -> None:
    metrics = Metrics(configuration())
    for number in range(50):
        metrics.answered(
            row(model=f"made-up-{number}", backend=f"none-{number}", username=f"user-{number}", path=f"/{number}", status_code=404)
        )
    text = page(metrics)
    assert samples(text)["requests_total", frozenset({"unknown", "404"})] == 50
    assert not any(word in text for word in ("made-up", "none-", "user-"))


def test_users_are_told_where_the_settings_ask_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.metrics.MOST_USERS", 2)
    metrics = Metrics(configuration(metrics_by_user=True))
    for user in ("ann", "bob", "cid", "dan", "ann"):
        metrics.answered(row(username=user))
    found = samples(page(metrics))
    of = frozenset({"qwen2.5:3b", "one", "200"})
    assert {user: found["requests_total", of | {user}] for user in ("ann", "bob", "other")} == {"ann": 2, "bob": 1, "other": 2}


def test_the_state_is_that_of_the_moment() -> None:
    metrics = Metrics(configuration())
    stage = Stage(observer=metrics, log=KeptLog())
    stage.dispatcher.said = Figures(
        waiting=3,
        running=2,
        waiting_by_model={"qwen2.5:3b": 3},
        running_by_backend={"one": 2},
        slots_by_backend={"one": 4},
        swaps_by_backend={"one": 5},
        limited={"tokens": 6},
    )
    stage.dispatcher.drain()
    found = samples(page(metrics, stage))
    assert found["queue_depth", frozenset({"qwen2.5:3b"})] == 3
    assert (found["running", frozenset({"one"})], found["slots", frozenset({"one"})]) == (2, 4)
    assert (found["swaps_total", frozenset({"one"})], found["limited_total", frozenset({"tokens"})]) == (5, 6)
    nothing: frozenset[str] = frozenset()
    told = [
        found[name, nothing]
        for name in (
            "draining",
            "log_rows_written_total",
            "log_rows_dropped_total",
            "log_rows_spooled_total",
            "log_rows_waiting",
            "log_spool_bytes",
            "database_up",
        )
    ]
    assert told == [1, 7, 1, 2, 3, 4, 0]
    assert any(name == "build_info" for name, _ in found)


def test_whoever_comes_next_hears_the_same() -> None:
    class Heard(Silence):
        rows: list[Row] = []
        retries: list[str] = []

        def answered(self, row: Row) -> None:
            self.rows.append(row)

        def retried(self, backend: str) -> None:
            self.retries.append(backend)

    heard = Heard()
    metrics = Metrics(configuration(), heard)
    metrics.answered(row())
    metrics.retried("one")
    assert (len(heard.rows), heard.retries) == (1, ["one"])
