"""The gateway's metrics, in Prometheus' text format. Names and labels: docs of each metric below; no label takes a value from a caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paddock_gateway.contract import Figures, Observer, Parts, Row
from paddock_gateway.settings import Configuration
from paddock_gateway.tracing import Traces

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN = "unknown"
"""The label of a model or back end that is not in the settings, and of a user where there is none."""
MOST_USERS = 1000
"""Users beyond it count as `other`."""

DURATIONS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
FIRST_TOKENS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
WAITS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class LogFigures(Protocol):
    """Rows since the start, but for `waiting` (rows now) and `spool_bytes` (on disk now). `away`: the database does not answer."""

    @property
    def written(self) -> int: ...
    @property
    def spooled(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def spool_bytes(self) -> int: ...
    @property
    def away(self) -> bool: ...


@runtime_checkable
class KeepsFigures(Protocol):
    """A request log that has them: paddock_gateway.request_log.BatchLog."""

    def figures(self) -> LogFigures: ...


class Series:
    """The counters and histograms of one model, back end, status and user, looked up once."""

    __slots__ = ("cached", "completion", "first_token", "prompt", "queued", "requests", "took")

    def __init__(self, of: Metrics, model: str, backend: str, status: str, user: tuple[str, ...]) -> None:
        self.requests = of.requests.labels(model, backend, status, *user)
        self.prompt = of.prompt_tokens.labels(model, backend, *user)
        self.cached = of.cached_tokens.labels(model, backend, *user)
        self.completion = of.completion_tokens.labels(model, backend, *user)
        self.took = of.took.labels(model, backend)
        self.first_token = of.first_token.labels(model, backend)
        self.queued = of.queued.labels(model)


class Metrics:
    """An Observer. `then` hears of each answer and retry after it: the access log, or `traces` before that."""

    def __init__(self, configuration: Configuration, then: Observer | None = None, traces: Traces | None = None) -> None:
        self._configuration, self._then = configuration, then
        self._by_user = configuration.metrics_by_user
        self._names = {name: model for model, entry in configuration.models.items() for name in (model, *entry.aliases)}
        self._series: dict[tuple[str, str, int, str], Series] = {}
        self._users: set[str] = set()
        self.registry = CollectorRegistry()
        user = ("user",) if self._by_user else ()
        by = ("model", "backend")
        name = "paddock_gateway_"
        self.requests = Counter(name + "requests_total", "Requests that were answered.", (*by, "status", *user), registry=self.registry)
        self.prompt_tokens = Counter(name + "prompt_tokens_total", "Tokens of prompts.", (*by, *user), registry=self.registry)
        self.cached_tokens = Counter(
            name + "cached_tokens_total", "Tokens of prompts that a cache had.", (*by, *user), registry=self.registry
        )
        self.completion_tokens = Counter(name + "completion_tokens_total", "Tokens of answers.", (*by, *user), registry=self.registry)
        self.took = Histogram(
            name + "request_duration_seconds", "From the request to the end of its answer.", by, buckets=DURATIONS, registry=self.registry
        )
        self.first_token = Histogram(
            name + "first_token_seconds", "From the request to the first token.", by, buckets=FIRST_TOKENS, registry=self.registry
        )
        self.queued = Histogram(name + "queue_wait_seconds", "The wait for a slot.", ("model",), buckets=WAITS, registry=self.registry)
        self.retries = Counter(name + "retries_total", "Requests that were sent to another back end.", ("backend",), registry=self.registry)
        self._state = _State(configuration, traces)
        self.registry.register(self._state)

    def answered(self, row: Row) -> None:
        user = (self._user(row.username),) if self._by_user else ()
        key = (
            self._names.get(row.model, UNKNOWN),
            row.backend if row.backend in self._configuration.backends else UNKNOWN,
            row.status_code,
            *(user or ("",)),
        )
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(self, key[0], key[1], str(row.status_code), user)
        series.requests.inc()
        series.took.observe(row.duration_ms / 1000)
        series.queued.observe(row.queued_ms / 1000)
        if row.ttft_ms is not None:
            series.first_token.observe(row.ttft_ms / 1000)
        if row.prompt_tokens:
            series.prompt.inc(row.prompt_tokens)
            series.cached.inc(row.cached_tokens)
        if row.completion_tokens:
            series.completion.inc(row.completion_tokens)
        if self._then:
            self._then.answered(row)

    def retried(self, backend: str) -> None:
        self.retries.labels(backend if backend in self._configuration.backends else UNKNOWN).inc()
        if self._then:
            self._then.retried(backend)

    def _user(self, name: str) -> str:
        if name not in self._users:
            if len(self._users) >= MOST_USERS:
                return "other"
            self._users.add(name)
        return name or UNKNOWN

    async def text(self, parts: Parts) -> bytes:
        """The page. Written in a thread: with a thousand series the loop would stand still for 10 ms."""
        self._state.look(parts)
        return await asyncio.get_running_loop().run_in_executor(None, generate_latest, self.registry)


class _State(Collector):
    """What is as it is at the moment of asking: taken on the loop, told in the thread."""

    def __init__(self, configuration: Configuration, traces: Traces | None) -> None:
        self._configuration, self._traces = configuration, traces
        self._figures = Figures(waiting=0, running=0)
        self._draining = False
        self._log: LogFigures | None = None

    def look(self, parts: Parts) -> None:
        self._figures = parts.dispatcher.figures()
        self._draining = parts.dispatcher.draining
        self._log = parts.log.figures() if isinstance(parts.log, KeepsFigures) else None

    def collect(self) -> Iterable[Metric]:
        figures, models, backends = self._figures, self._configuration.models, self._configuration.backends
        yield _gauges("queue_depth", "Requests that wait for a slot.", "model", {m: figures.waiting_by_model.get(m, 0) for m in models})
        yield _gauges("running", "Requests that hold a slot.", "backend", {b: figures.running_by_backend.get(b, 0) for b in backends})
        yield _gauges(
            "slots", "Slots of a back end; 0 while it is down.", "backend", {b: figures.slots_by_backend.get(b, 0) for b in backends}
        )
        yield _counters("swaps", "Models that a router loaded in place of others.", "backend", figures.swaps_by_backend)
        yield _counters("limited", "Requests that were refused, by limit.", "limit", figures.limited)
        yield GaugeMetricFamily("paddock_gateway_draining", "1 while no new request is taken.", float(self._draining))
        if log := self._log:
            name = "paddock_gateway_log_"
            yield CounterMetricFamily(name + "rows_written", "Rows of the request log that the database has.", log.written)
            yield CounterMetricFamily(name + "rows_spooled", "Rows that went to the disk while the database was away.", log.spooled)
            yield CounterMetricFamily(name + "rows_dropped", "Rows that found no room.", log.dropped)
            yield GaugeMetricFamily(name + "rows_waiting", "Rows in memory.", log.waiting)
            yield GaugeMetricFamily(name + "spool_bytes", "What waits on the disk for the database.", log.spool_bytes)
            yield GaugeMetricFamily("paddock_gateway_database_up", "1 while the database answers.", float(not log.away))
        if traces := self._traces and self._traces.figures():
            name = "paddock_gateway_traces_"
            yield CounterMetricFamily(name + "sent", "Requests that Langfuse has a trace of.", traces.sent)
            yield CounterMetricFamily(name + "dropped", "Requests whose trace found no room, or was refused.", traces.dropped)
            yield GaugeMetricFamily(name + "waiting", "Traces in memory.", traces.waiting)
            yield GaugeMetricFamily(name + "up", "1 while Langfuse takes traces.", float(not traces.away))
        build = GaugeMetricFamily("paddock_gateway_build_info", "1, with the version of this gateway.", labels=("version",))
        build.add_metric((VERSION,), 1)
        yield build


def _gauges(name: str, says: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily("paddock_gateway_" + name, says, labels=(label,))
    for of, value in values.items():
        family.add_metric((of,), value)
    return family


def _counters(name: str, says: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily("paddock_gateway_" + name, says, labels=(label,))
    for of, value in values.items():
        family.add_metric((of,), value)
    return family


def _version() -> str:
    try:
        return version("paddock-gateway")
    except PackageNotFoundError:
        return UNKNOWN  # run from its source


VERSION = _version()
