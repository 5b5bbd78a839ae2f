"""The way to the back ends, for the proxy's own routes (`exchange`) and the gateway's other APIs (`chunks`, the contract's Upstream)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from paddock_gateway.contract import Account, Dispatcher, Observer, RequestLog, Row
from paddock_gateway.errors import Failure
from paddock_gateway.proxy import events
from paddock_gateway.proxy.backends import Pool
from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.client import Patience
from paddock_gateway.proxy.exchange import Exchange, Wanted, failure_of
from paddock_gateway.proxy.models import Models
from paddock_gateway.proxy.prepared import prepare
from paddock_gateway.proxy.routes import ROUTES
from paddock_gateway.settings import Configuration


class HttpUpstream:
    def __init__(
        self,
        configuration: Configuration,
        dispatcher: Dispatcher,
        log: RequestLog,
        observer: Observer,
        patience: Patience | None = None,
    ) -> None:
        """Raises SettingsError where a back end's key cannot be read. `pool` is to be opened before the first request, and closed."""
        self._configuration, self._dispatcher, self._log, self._observer = configuration, dispatcher, log, observer
        self.models = Models(configuration)
        self.pool = Pool(configuration, dispatcher, patience)

    def context(self, model: str) -> int:
        """See the contract."""
        entry = self.models.named(model)
        metas = (self.pool[target.backend].meta.get(target.model, {}) for target in entry.targets)
        said = [meta["n_ctx"] for meta in metas if isinstance(meta.get("n_ctx"), int) and meta["n_ctx"] > 0]
        return min(said, default=entry.context)

    def exchange(self, wanted: Wanted) -> Exchange:
        return Exchange(wanted, self.pool, self._dispatcher, self._observer, self._configuration.health.retries)

    async def chunks(
        self, account: Account, path: str, body: Mapping[str, Any], *, logged_as: str, request_id: str = ""
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """See the contract."""
        begun, row = time.monotonic(), _row(account, logged_as, request_id)
        exchange: Exchange | None = None
        try:
            raw = orjson.dumps(
                {**body, "stream": True, **({"stream_options": {"include_usage": True}} if ROUTES[path].kind == "chat" else {})}
            )
            row.request_bytes = len(raw)
            headers = {"X-Request-Id": request_id} if request_id else {}
            prepared = prepare(self.models, account, ROUTES[path], Body(raw), headers)
            row.model = prepared.wanted.ask.model
            exchange = self.exchange(prepared.wanted)
            await exchange.open()
            if exchange.whole is not None:
                refused = failure_of(b"data: " + exchange.whole.replace(b"\n", b" ") + b"\n\n")
                raise Failure(exchange.status if exchange.status >= 400 else 502, refused.message, "backend_refused")
            async with aclosing(exchange.events()) as batches:
                async for batch in batches:
                    if exchange.error:
                        raise failure_of(exchange.error)
                    row.response_bytes += len(batch)
                    for said in events.objects(batch):
                        row.ttft_ms = row.ttft_ms or (time.monotonic() - begun) * 1000
                        yield said
            row.status_code = 200
        except Failure as failure:
            row.status_code = failure.status
            raise
        finally:
            # closed before its end: the caller left
            row.status_code = row.status_code or 499
            if exchange:
                exchange.close()
                _settle(row, exchange)
            row.duration_ms = (time.monotonic() - begun) * 1000
            self._log.add(row)
            self._observer.answered(row)


def _row(account: Account, path: str, request_id: str) -> Row:
    return Row(account.user, path, "", "", 0, 0.0, None, 0.0, 0, 0, 0, 0, 0, time.time(), request_id)


def _settle(row: Row, exchange: Exchange) -> None:
    if exchange.last:
        row.backend, row.queued_ms = exchange.last.backend, exchange.last.queued_s * 1000
    if exchange.used:
        used = exchange.used
        row.prompt_tokens, row.cached_tokens, row.completion_tokens = used.prompt_tokens, used.cached_tokens, used.completion_tokens
