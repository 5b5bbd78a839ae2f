"""Parts that the APIs' tests give them: users and keys in memory, a back end whose tokens the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from paddock_gateway import openapi
from paddock_gateway.apis import admin, litellm, pi
from paddock_gateway.contract import (
    Account,
    Ask,
    BackendState,
    Figures,
    Forecast,
    KeyRecord,
    Observer,
    Parts,
    Place,
    RequestLog,
    Row,
    Used,
)
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration, Limits

Client = TestClient[web.Request, web.Application]


def configuration(**changes: Any) -> Configuration:
    return msgspec.convert(
        {
            "listen": ["127.0.0.1:8001"],
            "database": "sqlite:/var/lib/paddock-gateway/gateway.db",
            "pepper_file": "/etc/paddock/gateway/pepper",
            "state": "/var/lib/paddock-gateway",
            "backends": {"one": {"url": "http://192.0.2.10:8080"}},
            "models": {"qwen2.5:3b": {"targets": [{"backend": "one", "model": "qwen"}], "aliases": ["default"], "context": 2048}},
            "users": [{"name": "declared", "digest": "0" * 64}],
            "pi": {"model": "qwen2.5:3b", "threads": 4, "keys_generate": {}},
            **changes,
        },
        Configuration,
    )


@dataclass
class MemoryUsers:
    """Keys in memory. `away`: every call fails as with a database that does not answer."""

    kept: dict[str, KeyRecord] = field(default_factory=dict)
    """By key."""
    away: bool = False
    made: int = 0
    users: set[str] = field(default_factory=set)
    """Those who ever had a key."""

    def add(self, key: str, user: str, **more: Any) -> KeyRecord:
        least: dict[str, Any] = {"label": "", "models": None, "limits": None, "weight": 1.0, "admin": False, "expires": None}
        told = {**least, "disabled": False, "declared": False, **more}
        record = KeyRecord(id=f"id-{len(self.kept)}", user=user, hint=f"{key[:5]}…{key[-4:]}", created=time.time(), **told)
        self.kept[key] = record
        self.users.add(user)
        return record

    def _key(self, which: str) -> str:
        if self.away:
            raise Failure(503, "The database is away.", "database_away", retry_after_s=5)
        for key, record in self.kept.items():
            if which in (key, record.id):
                return key
        raise Failure(404, "There is no such key.", "key_not_found")

    async def create(
        self,
        user: str,
        *,
        label: str = "",
        models: Sequence[str] | None = None,
        limits: Limits | None = None,
        weight: float | None = None,
        expires: float | None = None,
        admin: bool = False,
        new: bool = False,
    ) -> tuple[str, KeyRecord]:
        if self.away:
            raise Failure(503, "The database is away.", "database_away", retry_after_s=5)
        if new and user in self.users:
            raise Failure(409, f"There is a user {user!r} already.", "user_exists")
        self.made += 1
        key = f"sk-made-{self.made:04}-abcdefgh"
        named = None if models is None else tuple(models)
        return key, self.add(key, user, label=label, models=named, limits=limits, expires=expires, admin=admin)

    async def list(self, user: str | None = None) -> Sequence[KeyRecord]:
        return [record for record in self.kept.values() if user in (None, record.user)]

    async def show(self, which: str) -> KeyRecord:
        return self.kept[self._key(which)]

    async def revoke(self, which: str) -> KeyRecord:
        return self.kept.pop(self._key(which))

    async def set_disabled(self, which: str, disabled: bool) -> KeyRecord:
        key = self._key(which)
        self.kept[key] = replace(self.kept[key], disabled=disabled)
        return self.kept[key]

    async def rotate(self, which: str) -> tuple[str, KeyRecord]:
        record = self.kept.pop(self._key(which))
        return await self.create(record.user, label=record.label, models=record.models, limits=record.limits)


@dataclass
class MemoryKeys:
    users: MemoryUsers

    def known(self, key: str) -> Account | None:
        return None

    async def account(self, key: str) -> Account:
        record = self.users.kept.get(key)
        if record is None or record.disabled:
            raise Failure(401, "This key is unknown.", "invalid_api_key")
        models = None if record.models is None else frozenset(record.models)
        return Account(record.user, record.id, models, record.limits or Limits(), admin=record.admin)


@dataclass
class StillDispatcher:
    """Figures that the test says; it drains until it is resumed."""

    said: Figures = field(default_factory=lambda: Figures(waiting=0, running=0, slots_by_backend={"one": 4}))
    draining: bool = False
    gone_idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def place(self, ask: Ask) -> Place:
        raise NotImplementedError

    def done(self, place: Place, used: Used | None, *, whole: bool) -> None: ...

    def again(self, place: Place) -> None: ...

    def forecast(self, ask: Ask) -> Forecast:
        return Forecast(0, 0)

    def update(self, backend: str, state: BackendState) -> None: ...

    def drain(self) -> None:
        self.draining = True

    def resume(self) -> None:
        self.draining = False

    async def idle(self) -> None:
        await self.gone_idle.wait()

    def figures(self) -> Figures:
        return self.said


@dataclass
class ScriptedUpstream:
    """Answers each request with `tokens`, then usage. A Failure among them is raised where it stands, an Event is awaited."""

    tokens: Sequence[str | Failure | asyncio.Event] = ("2+2 ", "equals 4.")
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    tokens_of_context: int = 2048
    open: int = 0
    most_open: int = 0

    async def chunks(
        self, account: Account, path: str, body: Mapping[str, Any], *, logged_as: str, request_id: str = ""
    ) -> AsyncIterator[Mapping[str, Any]]:
        self.asked.append(body)
        self.logged.append(logged_as)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            yield {"choices": [{"delta": {"role": "assistant", "content": None}}]}
            for token in self.tokens:
                if isinstance(token, Failure):
                    raise token
                if isinstance(token, asyncio.Event):
                    await token.wait()
                else:
                    yield {"choices": [{"delta": {"content": token}, "finish_reason": None}]}
            yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}
            yield {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": len(self.tokens), "prompt_tokens_details": {}}}
        finally:
            self.open -= 1

    def context(self, model: str) -> int:
        return self.tokens_of_context


class Silence:
    """A log and an observer of nothing."""

    def add(self, row: Row) -> None: ...

    def answered(self, row: Row) -> None: ...

    def retried(self, backend: str) -> None: ...


class Stage:
    """The parts, each at hand, with a key of a user and one of an administrator."""

    def __init__(self, *, observer: Observer | None = None, log: RequestLog | None = None, **changes: Any) -> None:
        self.users, self.dispatcher, self.upstream = MemoryUsers(), StillDispatcher(), ScriptedUpstream()
        self.users.add("sk-ann", "ann")
        self.users.add("sk-admin", "root", admin=True)
        self.users.add("sk-declared", "declared", declared=True)
        silence = Silence()
        self.parts = Parts(
            configuration(**changes),
            MemoryKeys(self.users),
            self.users,
            self.dispatcher,
            log or silence,
            observer or silence,
            self.upstream,
        )


@asynccontextmanager
async def served(parts: Parts, application: web.Application | None = None) -> AsyncIterator[Client]:
    """The three APIs over a real socket; or another application."""
    if application is None:
        application = web.Application()
        for api in (admin, pi, litellm, openapi):
            api.add_routes(application, parts)
    async with TestClient(TestServer(application)) as client:  # which cancels the handler of a client that leaves
        yield client


ANN = {"X-API-Key": "sk-ann"}
ADMIN = {"Authorization": "Bearer sk-admin"}


async def until(condition: Callable[[], object]) -> None:
    """Gives way until the condition holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come about")
