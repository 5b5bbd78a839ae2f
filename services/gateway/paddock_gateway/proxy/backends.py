"""The back ends: a client for each, what a look at it finds, and when it is left alone for a while.

What was found goes to `Dispatcher.update`. A back end is looked at every `health.every_s`; after `health.failures` failures in a row, of
looks or of requests, it takes no request for `health.cooldown_s`, then a look decides. One that did not answer a look, as over a restart,
is looked at again soon.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from paddock_gateway.contract import BackendState, Dispatcher
from paddock_gateway.proxy.client import Client, Patience
from paddock_gateway.proxy.pace import Pace
from paddock_gateway.settings import Backend as Declared
from paddock_gateway.settings import Configuration, SettingsError

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""Between two looks at a back end that did not answer the last one."""

LARGEST_LOOK = 8 * 1024 * 1024
"""Bytes of /props or /v1/models: a router's list has every model's arguments."""

PARALLEL = ("--parallel", "-np")
META = ("vocab_type", "n_vocab", "n_ctx", "n_ctx_train", "n_embd", "n_params", "size", "ftype")


@dataclass
class Backend:
    name: str
    declared: Declared
    client: Client
    failures: int = 0
    up: bool = True
    """Until a look says otherwise: a gateway that starts takes requests at once."""
    resting_until: float = 0.0
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The id of a model there → what it says of it: META, no path and no argument."""
    slots_of: dict[str, int] = field(default_factory=dict)
    """The id of a router's model → its slots."""
    paces: defaultdict[str, Pace] = field(default_factory=lambda: defaultdict(Pace))
    """By the id of a model there."""


class Pool:
    """Raises SettingsError where a back end's key cannot be read."""

    def __init__(self, configuration: Configuration, dispatcher: Dispatcher, patience: Patience | None = None) -> None:
        self._health = configuration.health
        self._dispatcher = dispatcher
        self.patience = patience or Patience()
        self._backends = {name: self._backend(name, declared) for name, declared in configuration.backends.items()}
        self._at_once = _at_once(configuration)
        self._looks: list[asyncio.Task[None]] = []

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Any:
        return iter(self._backends.values())

    async def open(self) -> None:
        """Looks at each back end for the first time."""
        await asyncio.gather(*(self.look(backend) for backend in self._backends.values()))
        self._looks = [asyncio.create_task(self._follow(backend)) for backend in self._backends.values()]

    async def close(self) -> None:
        for task in self._looks:
            task.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        for backend in self._backends.values():
            backend.client.close()

    def _backend(self, name: str, declared: Declared) -> Backend:
        key = _key(name, declared.key_file)
        try:
            return Backend(name, declared, Client(declared.url, {"Authorization": f"Bearer {key}"} if key else {}, self.patience))
        except ValueError as error:
            raise SettingsError(f"backends.{name}.url: {error}") from None

    async def _follow(self, backend: Backend) -> None:
        loop = asyncio.get_running_loop()
        while True:
            resting = backend.resting_until - loop.time()
            every_s = min(AGAIN_S, self._health.every_s) if backend.failures else self._health.every_s
            await asyncio.sleep(resting if resting > 0 else every_s)
            if backend.resting_until <= loop.time():
                await self.look(backend)

    async def look(self, backend: Backend) -> None:
        """Asks how many slots it has and, of a router, what is loaded. Never raises."""
        try:
            state = await self._state(backend)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.failed(backend.name, f"{type(error).__name__} {error}".strip(), rest_s=min(AGAIN_S, self._health.cooldown_s))
            return
        if not backend.up:
            log.warning("Back end %s answers again.", backend.name)
        backend.up, backend.failures, backend.resting_until = True, 0, 0.0
        self._dispatcher.update(backend.name, state)

    async def _state(self, backend: Backend) -> BackendState:
        declared = backend.declared
        models = (await self._ask(backend, "/v1/models"))["data"]
        for model in models:
            meta = model.get("meta")
            if isinstance(meta, dict):
                backend.meta[str(model["id"])] = {name: meta[name] for name in META if name in meta}
        if not declared.router:
            slots = declared.slots or int((await self._ask(backend, "/props"))["total_slots"])
            return BackendState(up=True, slots=self._within(backend.name, slots))
        loaded = frozenset(str(model["id"]) for model in models if (model.get("status") or {}).get("value") == "loaded")
        if not declared.slots:
            await self._count_slots(backend, models, loaded)
        slots_of = {model: self._within(backend.name, slots) for model, slots in backend.slots_of.items()}
        return BackendState(True, self._within(backend.name, declared.slots), loaded, declared.models_max, slots_of)

    def _within(self, name: str, slots: int) -> int:
        return max(1, min(slots, self._at_once.get(name, slots)))

    async def _count_slots(self, backend: Backend, models: list[dict[str, Any]], loaded: frozenset[str]) -> None:
        """A router's own /props has no slots: a loaded model's has. What it is started with says it before, where it was given."""
        for model in models:
            name, given = str(model["id"]), (model.get("status") or {}).get("args") or []
            if name in loaded:
                found = (await self._ask(backend, "/props", model=name)).get("total_slots")
            else:
                found = next((int(value) for option, value in pairwise(given) if option in PARALLEL and str(value).isdecimal()), None)
            if isinstance(found, int) and found > 0:
                backend.slots_of[name] = found

    async def _ask(self, backend: Backend, path: str, **query: str) -> dict[str, Any]:
        said = orjson.loads(await backend.client.page(path + ("?" + urlencode(query) if query else ""), LARGEST_LOOK))
        if not isinstance(said, dict):
            raise ValueError(f"no object at {path}")
        return said

    def failed(self, name: str, why: str, rest_s: float | None = None) -> None:
        """A look or a request that the back end did not answer. Without a time of its own it rests for the cool-down."""
        backend = self._backends[name]
        backend.failures += 1
        if backend.failures < self._health.failures and backend.up:
            return
        if backend.up:
            log.warning("Back end %s gets no requests until it answers: %s.", name, why)
        backend.up = False
        resting_until = asyncio.get_running_loop().time() + (self._health.cooldown_s if rest_s is None else rest_s)
        backend.resting_until = max(backend.resting_until, resting_until)
        self._dispatcher.update(name, BackendState(up=False, slots=backend.declared.slots))

    def answered(self, name: str) -> None:
        backend = self._backends[name]
        if backend.up:
            backend.failures = 0


def _at_once(configuration: Configuration) -> dict[str, int]:
    """The back ends of the small host's model, with the requests that may run there at once."""
    pi = configuration.pi
    if pi is None:
        return {}
    entries = (entry for model, entry in configuration.models.items() if pi.model in (model, *entry.aliases))
    return {target.backend: pi.max_concurrent for entry in entries for target in entry.targets}


def _key(name: str, file: str) -> str:
    if not file:
        return ""
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"backends.{name}.key_file: {file} cannot be read: {error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys or not keys[0].isprintable() or not keys[0].isascii():
        raise SettingsError(f"backends.{name}.key_file: {file} has no key in its first line")
    return keys[0]
