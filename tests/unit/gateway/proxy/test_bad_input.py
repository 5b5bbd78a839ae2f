"""What is wrong with a request is said in words, with the status that fits, and never as a 500."""

import asyncio
import gzip
import json
import logging
from typing import Any

import pytest

from paddock_gateway.errors import Failure
from paddock_gateway.proxy.routes import MODEL_LISTS, ROUTES
from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, gateway, run
from tests.unit.gateway.proxy.scripted import HELLO, chat, json_answer, streaming

CHAT = "/v1/chat/completions"


def refused(path: str, body: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    """Status and `error`. What is refused never reaches the back end, and has a row."""

    async def test() -> tuple[int, dict[str, Any]]:
        settings = {name: more.pop(name) for name in ("body_mib", "body_s") if name in more}
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url, **settings) as under:
            status, said, headers = await under.post(path, body, **more)
            assert not backend.asked and headers["X-Request-Id"]
            rows = [row.status_code for row in under.log.rows]
            assert rows in ([status], []) and (rows or status in (404, 405))
            return status, json.loads(said)["error"]

    return run(test())


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"model": "small",\n "messages": [1,]}', "trailing comma in array (line 2, column 17)"),
        (b'{"model": "small"', "truncated"),
        (b"", "truncated"),
        (b'{"model": "\xff"}', "no UTF-8 at line 1, column 12"),
        (b"[1]", "JSON object"),
        (b'"x"', "JSON object"),
        (b"\xef\xbb\xbf{}", "invalid character (line 1, column 1)"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nests too deeply"),
        (b'{"model": 3}', '"model" is to be a string'),
        (b'{"model": "small", "stream": "yes"}', '"stream" is to be true or false'),
        (b"{}", 'names no model. Set "model" to one of: fast, large, small'),
    ],
)
def test_json_that_is_wrong_is_told_with_its_place(raw: bytes, words: str) -> None:
    status, error = refused(CHAT, raw)
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert words in error["message"]


def test_an_unknown_model_is_told_with_the_nearest_name() -> None:
    status, error = refused(CHAT, chat(model="smal"))
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["message"] == 'There is no model "smal" for this key. Did you mean "small"?'


def test_a_model_of_others_is_as_unknown_as_one_that_is_not_there() -> None:
    there, _ = refused(CHAT, chat(model="large"), key="sk-boris")
    status, error = refused(CHAT, chat(model="larch"), key="sk-boris")
    assert there == status == 404
    assert "large" not in error["message"]


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 401, "has no key"),
        ({"Authorization": "Bearer sk-nobody"}, 401, "not known"),
        ({"Authorization": "Bearer "}, 401, "has no key"),
        ({"Authorization": f"Basic {KEY}"}, 400, "not `Bearer KEY`"),
        ({"Authorization": f"Bearer {KEY}", "X-Api-Key": "sk-other"}, 400, "two keys that differ"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_refused(headers: dict[str, str], status: int, words: str) -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            for path in (CHAT, "/v1/messages"):
                async with under.session.post(under.url + path, json=chat(), headers=headers) as response:
                    said = await response.json()
                    assert response.status == status and words in said["error"]["message"]
                    assert ("type" in said) == (path == "/v1/messages"), "Anthropic's shape has a type outside too"
            assert not backend.asked and under.log.rows[0].username == ""

    run(test())


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"bearer {KEY}"}, {"x-api-key": KEY}, {"X-API-Key": KEY, "Authorization": f"Bearer {KEY}"}]
)
def test_a_key_may_come_as_either_header(headers: dict[str, str]) -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            async with under.session.post(under.url + CHAT, json=chat(stream=True), headers=headers) as response:
                assert response.status == 200
            async with under.session.post(under.url + CHAT, json=chat(stream=True), headers={"x-api-key": "sk-late"}) as response:
                assert response.status == 200, "a key that only the database knows"

    run(test())


def test_a_key_in_the_address_is_refused_and_written_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            for name in ("api_key", "key", "API-KEY", "access_token"):
                status, said, _ = await under.post(f"{CHAT}?{name}=sk-secret", chat())
                assert status == 400 and b"does not belong in the address" in said and b"sk-secret" not in said
            assert "sk-secret" not in repr(under.log.rows)

    run(test())
    assert "sk-secret" not in caplog.text


def test_a_body_that_is_too_large_or_too_slow_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url, body_mib=1, body_s=0.05) as under:
            large = chat(messages=[{"role": "user", "content": "x" * 1_100_000}])
            status, said, _ = await under.post(CHAT, large)
            assert status == 413 and b"larger than 1 MiB" in said
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n".encode()
            chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17 + b"0\r\n\r\n"
            assert (await under.raw(chunked)).startswith(b"HTTP/1.1 413 ")
            packed = gzip.compress(b" " * 3_000_000)
            bomb = head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
            assert (await under.raw(bomb)).startswith(b"HTTP/1.1 413 ")
            broken = head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"
            assert (await under.raw(broken)).startswith(b"HTTP/1.1 400 ")
            slow = await under.raw(head + b'Content-Length: 100\r\n\r\n{"model"')
            assert slow.startswith(b"HTTP/1.1 408 ") and b"did not arrive within" in slow
            assert [row.status_code for row in under.log.rows] == [413, 413, 413, 400, 408]
            assert not any(record.exc_info for record in caplog.records)
            assert not backend.asked and not under.places.asked

    run(test())


def test_many_small_members_do_not_become_memory() -> None:
    many = b'{"model":"small",' + b",".join(b'"%d":0' % number for number in range(200_000)) + b"}"
    status, error = refused(CHAT, many)
    assert status == 413 and "smaller fields" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        *("/slots", "/slots/0?action=erase", "/props", "/metrics", "/models/load", "/models/unload", "/lora-adapters", "/tools"),
        *("/cors-proxy", "/v1/stream", "/v1/streams/lookup", "/v1/chat/completions/control", "/v1/chat/completions/"),
        *("//v1/chat/completions", "/v1/../slots", "/v1/%2e%2e/slots", "/v1/chat/completions/../../../slots", "/v1%2fchat/completions"),
        *("/V1/chat/completions", "/v1/chat/completions%00", "/", "/v1", "/health", "/v1/chat/completions;x", "http://192.0.2.1/slots"),
    ],
)
def test_nothing_else_of_a_back_end_is_reachable(path: str) -> None:
    async def test() -> None:
        async with BackendUnderTest(json_answer({})).serving() as backend, gateway(backend.url) as under:
            for method in ("GET", "POST", "DELETE"):
                head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
                said = await under.raw(head.encode() + b"Content-Length: 2\r\n\r\n{}")
                assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), said
                assert b'{"error":{"message":"' in said
            assert not backend.asked

    run(test())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
def test_only_the_method_of_a_route_reaches_it(method: str) -> None:
    async def test() -> None:
        async with BackendUnderTest(json_answer({})).serving() as backend, gateway(backend.url) as under:
            for path in (CHAT, "/tokenize") if method == "GET" else (CHAT, "/v1/models"):
                status, said, headers = await under.post(path, {}, method=method)
                assert status == 405 and headers["Allow"] in ("POST", "GET")
                assert method == "HEAD" or b" takes " in said
            assert not backend.asked

    run(test())


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"BREW /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
        b"POST /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nA\x00: b\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
    ],
)
def test_http_that_cannot_be_read_is_a_400_without_a_traceback(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with gateway("http://127.0.0.1:9") as under:
            caplog.clear()
            said = await asyncio.wait_for(under.raw(sent), 5)
            assert said.startswith(b"HTTP/1.1 400 ") or said.startswith(b"HTTP/1.0 400 "), said
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_http"

    run(test())
    assert not caplog.records


def test_a_bug_is_no_500_and_is_told_once_in_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            under.places.failure = ZeroDivisionError("sk-internal")  # type: ignore[assignment]
            caplog.clear()
            status, said, headers = await under.post(CHAT, chat())
            assert status == 502 and headers["X-Request-Id"] in json.loads(said)["error"]["message"]
            assert b"sk-internal" not in said
            assert (await under.row()).status_code == 502

    run(test())
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_limit_is_told_with_when_to_come_again() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            under.places.failure = Failure(429, "Too many requests.", "requests", retry_after_s=2.2)
            for path, kind in ((CHAT, "rate_limit_error"), ("/v1/messages", "rate_limit_error")):
                status, said, headers = await under.post(path, chat(stream=True))
                assert (status, headers["Retry-After"], json.loads(said)["error"]["type"]) == (429, "3", kind)

    run(test())


def test_request_ids_that_are_not_sane_are_replaced() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            for said in ("x" * 129, "a b", '"'):
                _, _, headers = await under.post(CHAT, chat(stream=True), headers={"X-Request-Id": said})
                assert headers["X-Request-Id"] != said and len(headers["X-Request-Id"]) == 32

    run(test())


def test_every_listed_route_is_reachable_and_no_other() -> None:
    async def test() -> None:
        async with BackendUnderTest(json_answer({})).serving() as backend, gateway(backend.url) as under:
            for path, route in ROUTES.items():
                if route.kind == "plain":
                    assert (await under.post(path, {"model": "small"}))[0] == 200
                    assert backend.asked[-1].path == route.path
            for path in MODEL_LISTS:
                assert (await under.post(path, method="GET"))[0] == 200

    run(test())


def test_a_caller_that_leaves_while_it_sends_has_a_row_and_nothing_goes_up() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            host, port = under.url.removeprefix("http://").split(":")
            for broken in (b'Content-Length: 100\r\n\r\n{"model"', b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode() + broken)
                await asyncio.sleep(0.01)
                writer.transport.abort()
                assert (await under.row()).status_code == 499
                under.log.rows.clear()
            assert not backend.asked

    run(test())
