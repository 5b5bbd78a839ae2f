"""What callers may have done: the presets shown, a context changed, the servers restarted; one at a time, and not during a deployment."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .answers import ContextAnswer, Refusal, RestartAnswer
from .configuration import Server
from .llama_server import reads_presets, until_healthy
from .presets import CHANGED, option, replace, slots, trained, with_context
from .units import forget_note, restart

WAIT_S = 30
"""For somebody else's change, or a deployment, to end."""
LEAST, MOST = 256, 1 << 24
"""Sizes of a context a slot, where the model's file does not say for how much it was made."""


@dataclass(frozen=True)
class Admin:
    """What may be done. `presets` is the router's file; `api_key` is what llama-server wants to be shown, `notes` where Paddock's are."""

    servers: tuple[Server, ...]
    presets: Path
    api_key: str = field(default="", repr=False)
    notes: Path = Path("/run/paddock")
    noticed_s: float = 6
    """Who passes requests on to several servers asks each every two seconds: one is to be known before the next leaves."""
    busy: threading.Lock = field(default_factory=threading.Lock)

    def preset(self) -> str:
        if not self._router:
            raise Refusal(404, "this host has no router, and so no presets: its servers have one model each")
        return self.presets.read_text(encoding="utf-8")

    def ctx(self, asked: Mapping[str, Any], client: str) -> ContextAnswer:
        """Another context: on disk at once, and the model's from its next request on."""
        router, model, size = *self._serving(asked.get("model")), asked.get("size")
        if not isinstance(size, int) or isinstance(size, bool):
            raise Refusal(400, "size is a whole number of tokens, such as 8192")
        with self._alone():
            before = self.preset()
            most = (trained(option(before, model, ("model",))) or MOST) * slots(before, model)
            if not LEAST <= size <= most:
                raise Refusal(400, f"a context of {model} has {LEAST} to {most} tokens, not {size}")
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            after, was = with_context(before, model, size, f"{CHANGED} {client}, {now}")
            if was != size:
                replace(self.presets, after)
                forget_note(router, self.notes)
                if not reads_presets(router, self.api_key, model, size):
                    self._restart(router)
                    until_healthy(router, api_key=self.api_key)
        kept = f"The next `paddock up` puts back what the inventory says; `paddock models ctx {model} {size}` keeps it."
        words = f"{model} has that already." if was == size else f"{model} has it from its next request on. {kept}"
        return {"model": model, "ctx-size": size, "was": was, "note": words}

    def restart(self) -> RestartAnswer:
        """Restarts all servers of this host, those that have a model in common one after another, and waits until they answer."""
        with self._alone() as deployment:
            *before, last = turns(self.servers)
            for each in before:
                self._restart(*each)
                until_healthy(*each, api_key=self.api_key)
                time.sleep(self.noticed_s)
            self._restart(*last)
            deployment.release()
            until_healthy(*last, api_key=self.api_key)
        return {"restarted": [server.unit for server in self.servers]}

    @property
    def _router(self) -> Server | None:
        return next((server for server in self.servers if server.router), None)

    def _serving(self, model: object) -> tuple[Server, str]:
        """The router, and the model's name, which it has in its presets."""
        if not isinstance(model, str):
            raise Refusal(400, "model is the name of a model, as GET /models lists it")
        if self._router and model in self._router.models:
            return self._router, model
        if any(model in server.models for server in self.servers):
            words = f"{model} has a server of its own here, with its context on that one's command line"
            raise Refusal(409, f"{words}: `paddock models ctx {model} SIZE` changes it, on the machine that has the inventory")
        known = ", ".join(self._router.models) if self._router else "none"
        raise Refusal(404, f"no model is called {model[:128]!r} here: the router has {known}")

    @contextmanager
    def _alone(self) -> Iterator[Deployment]:
        """No other change, and no deployment, at the same time."""
        if not self.busy.acquire(timeout=WAIT_S):
            raise Refusal(409, "somebody else's change is still under way: try again")
        try:
            deployment = Deployment(self.notes / "lock")
            try:
                yield deployment
            finally:
                deployment.release()
        finally:
            self.busy.release()

    def _restart(self, *servers: Server) -> None:
        """All of a host's are the system's, or the same account's."""
        restart(servers[0].account, *(server.unit for server in servers))
        if self._router and CHANGED in self.preset():
            forget_note(self._router, self.notes)


def turns(servers: Sequence[Server]) -> list[list[Server]]:
    """Those of one turn may be away at the same time: no two of them have a model in common."""
    found: list[list[Server]] = []
    for server in servers:
        fits = (each for each in found if not any({*server.models} & {*other.models} for other in each))
        if (turn := next(fits, None)) is None:
            found.append([server])
        else:
            turn.append(server)
    return found


class Deployment:
    """The lock that Paddock holds while it changes a host."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    self.release()
                    raise Refusal(409, "a deployment is changing this host: try again when it is done") from None
            time.sleep(0.2)

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1
