"""Clients that ask at the doors of a fleet again and again, every other time for a stream: what they heard."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_fleet import Door

PAUSE_S = 0.2
"""Between two requests of a caller: five a second."""

AT_ONCE = 40
"""Requests of one caller that wait for their answers: who has more to ask asks later. On a machine that is too busy for the load they would
become more and more."""


@dataclass
class Heard:
    """What clients heard at one site with one model: how long each answer took, in seconds, and what was none."""

    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: int = 0
    """How often a connection ended before anything was answered, and the request was sent again, as clients do."""

    def __str__(self) -> str:
        return (
            f"{len(self.waits)} answered, the longest in {max(self.waits, default=0):.1f} s, {self.repeated} repeated, {self.failures[:3]}"
        )


@dataclass(frozen=True)
class Caller:
    """Asks at one site for one model."""

    door: Door
    context: ssl.SSLContext
    model: str
    headers: dict[str, str]
    pause_s: float = PAUSE_S

    def ask(self, stream: bool, heard: Heard) -> None:
        begun = time.monotonic()
        try:
            try:
                self._once(stream)
            except http.client.RemoteDisconnected:
                heard.repeated += 1
                self._once(stream)
            heard.waits.append(time.monotonic() - begun)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            heard.failures.append(f"after {time.monotonic() - begun:.1f} s: {error!r}"[:300])
            print(f"load: {time.time():.2f} {self.door.site} {self.model}: {heard.failures[-1]}", flush=True)

    def _once(self, stream: bool) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 48 if stream else 4, "stream": stream}
        status, said = self.door.ask("POST", "/v1/chat/completions", self.context, self.headers, json.dumps(body).encode())
        whole = b"data: [DONE]" in said if stream else b"chat.completion" in said
        assert status == 200 and whole, f"{status} {said[-200:]!r}"


@contextmanager
def asked(callers: dict[str, Caller]) -> Iterator[dict[str, Heard]]:
    """Each caller asks again and again for as long as this lasts."""
    heard, over = {name: Heard() for name in callers}, threading.Event()

    def ask(name: str) -> None:
        with ThreadPoolExecutor(AT_ONCE) as at_once:
            places, number = threading.Semaphore(AT_ONCE), 0
            while not over.wait(callers[name].pause_s):
                places.acquire()
                number += 1
                asking = at_once.submit(callers[name].ask, number % 2 == 0, heard[name])
                asking.add_done_callback(lambda _: places.release())

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in callers]
    for each in threads:
        each.start()
    time.sleep(2)
    try:
        yield heard
        time.sleep(2)
    finally:
        over.set()
        for each in threads:
            each.join(600)
