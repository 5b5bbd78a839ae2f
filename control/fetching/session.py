"""HTTP of which no more comes than is wanted, and for no longer: each answer within a `Bound`, its headers included.

requests has a timeout for each read of a socket. A server that sends a byte a minute, or a body without end, meets none of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from inventory import bounds
from inventory.bounds import Bound, TooMuch, size_words, time_words
from inventory.urls import without_query

T = TypeVar("T")


class TooSlow(requests.Timeout):
    """An answer takes longer than its bound."""


class PlainHttp(requests.RequestException):
    """Another machine would be asked without TLS."""


class Session(requests.Session):
    """Raises TooMuch for an answer beyond its bound, and TooSlow for one that takes longer. Nothing is asked for, or taken, compressed.

    Without `plain_http` other machines are asked over TLS alone: PlainHttp is raised otherwise.
    """

    def __init__(self, bound: Bound, verify: str | bool = True, *, plain_http: bool = True) -> None:
        super().__init__()
        self.bound, self.verify = bound, verify
        self.headers["Accept-Encoding"] = "identity"
        self.mount("https://", _Adapter(bound))
        self.mount("http://", _Adapter(bound) if plain_http else _ThisMachineOnly(bound))

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        stream = options.pop("stream", False)
        options["timeout"] = (bounds.CONNECT_S, min(bounds.STALL_S, self.bound.seconds or bounds.STALL_S))
        sending = super().send
        try:
            answer = _within(self.bound.seconds, lambda: sending(request, stream=True, **options))
        except requests.RequestException:
            raise
        except (ValueError, HTTPError) as error:  # an address that only who connects finds wrong, a redirect's too
            raise requests.exceptions.InvalidURL(f"is no address that can be asked: {error}", request=request) from None
        if not stream:
            _ = answer.content
        return answer


class _Adapter(HTTPAdapter):
    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        super().__init__()

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        answer = super().build_response(req, resp)
        answer.raw = _Body(answer.raw, self.bound, without_query(str(req.url)))
        return answer


class _ThisMachineOnly(_Adapter):
    """Plain HTTP to loopback alone, in redirects and links too."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        if not is_loopback(urlsplit(request.url or "").hostname or ""):
            raise PlainHttp(request=request)
        return super().send(request, *arguments, **named)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Body:
    """The body of an answer as requests reads it."""

    def __init__(self, raw: Any, bound: Bound, url: str) -> None:
        self._raw, self._bound, self._url = raw, bound, url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int = 1 << 16, decode_content: bool | None = None) -> Iterator[bytes]:
        if (encoding := self._raw.headers.get("Content-Encoding", "identity")) != "identity":
            raise TooMuch(f"{self._url}: sends its answer compressed ({encoding[:32]}), which nobody asked for")
        began, done, minute = time.monotonic(), 0, (time.monotonic(), 0)
        over = threading.Event()
        clock = threading.Timer(self._bound.seconds or 0, self._end, (over,)) if self._bound.seconds else None
        if clock:
            clock.daemon = True
            clock.start()
        try:
            while piece := self._read(amount, over):
                done, now = done + len(piece), time.monotonic()
                if done > self._bound.size:
                    raise TooMuch(f"{self._url}: sends more than {size_words(self._bound.size)}: {self._bound.what} has no more")
                if now - minute[0] > bounds.STALL_S:
                    if done - minute[1] < bounds.SLOWEST_BYTES_A_S * (now - minute[0]):
                        raise TooSlow(f"{done - minute[1]} bytes have come in {now - minute[0]:.0f} s")
                    minute = (now, done)
                yield piece
                if self._bound.seconds and now - began > self._bound.seconds:
                    raise too_slow(self._bound.seconds)
        finally:
            if clock:
                clock.cancel()

    def _read(self, amount: int, over: threading.Event) -> bytes:
        """What is there: `read` would wait until it has it all."""
        try:
            piece: bytes = self._raw.read1(amount, decode_content=False)
        except (HTTPError, OSError) as error:
            if over.is_set():
                raise too_slow(self._bound.seconds) from None
            raise requests.exceptions.ChunkedEncodingError(error) from error
        if not piece and over.is_set():
            raise too_slow(self._bound.seconds)
        return piece

    def _end(self, over: threading.Event) -> None:
        over.set()
        with suppress(OSError, ValueError, RuntimeError):
            self._raw.shutdown()


def too_slow(seconds: float | None) -> TooSlow:
    return TooSlow(f"its answer is not there within {time_words(seconds)}")


def _within(seconds: float | None, ask: Callable[[], T]) -> T:
    """What a question comes to, in a thread of its own: no timeout of a library is about all of DNS, TLS and headers. One that takes longer
    is left behind."""
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(ask())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise too_slow(seconds)
    return found[0]
