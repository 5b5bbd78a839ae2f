"""The way to a back end: by its name or number, with TLS, on connections that are kept; and headers as they came."""

import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from paddock_gateway.proxy.client import Client, Patience, Unreachable
from paddock_gateway.settings import Backend, SettingsError
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, gateway, run
from tests.unit.gateway.proxy.scripted import HELLO, chat, json_answer, streaming


def test_a_back_end_is_asked_by_its_name_at_the_address_that_answers() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend:  # at 127.0.0.1, while localhost is ::1 too
            port = backend.url.rpartition(":")[2]
            async with gateway(f"http://localhost:{port}") as under:
                assert (await under.post("/v1/chat/completions", chat(stream=True)))[0] == 200
                assert backend.asked[0].headers["Host"] == f"localhost:{port}"

    run(test())


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:9", "unix:/nowhere.sock"])
def test_one_that_is_not_there_is_told_as_that(url: str) -> None:
    async def test() -> None:
        with pytest.raises(Unreachable):
            await Client(url, {}, Patience()).ask("GET", "/props")

    run(test())


def test_an_address_that_is_none_is_told_at_the_start() -> None:
    async def test() -> None:
        async with gateway("http://127.0.0.1:port", declared={"b0": Backend("http://127.0.0.1:port")}):
            pass

    with pytest.raises(SettingsError, match=r"backends\.b0\.url"):
        run(test())


def test_only_a_certificate_that_the_machine_trusts_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", *make.split(), "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)

    async def test() -> None:
        runner = web.ServerRunner(web.Server(BackendUnderTest(streaming(*HELLO))))  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://localhost:{runner.addresses[0][1]}"
        with pytest.raises(Unreachable, match="certificate"):
            await Client(url, {}, Patience()).ask("GET", "/props")
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
        async with gateway(url) as under:
            assert (await under.post("/v1/chat/completions", chat(stream=True)))[0] == 200
        await runner.cleanup()

    run(test())


def test_an_unstreamed_request_keeps_its_connection_and_a_streamed_one_does_not() -> None:
    connections = []

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        connections.append((request.transport, request.headers["Connection"]))
        return await (streaming(*HELLO) if b'"stream"' in raw else json_answer({"tokens": [1]}))(request, raw)

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url) as under:
            for path in ("/tokenize", "/v1/chat/completions", "/tokenize"):
                assert (await under.post(path, chat(stream=True) if "chat" in path else {"model": "small"}))[0] == 200
        (first, keeps), (second, closes), third = connections
        assert (first, keeps) == third and second is not first
        assert (keeps, closes) == ("keep-alive", "close")

    run(test())


def test_headers_go_up_byte_for_byte() -> None:
    async def test() -> None:
        async with BackendUnderTest(json_answer({"tokens": [1]})).serving() as backend, gateway(backend.url) as under:
            head = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-anna\r\nContent-Type: application/json\r\n"
            body = b'{"model":"small"}'
            note = b"na\xefve \xe2\x82\xac"
            end = b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert (await under.raw(head + b"X-Note: " + note + end + body)).startswith(b"HTTP/1.1 200")
            assert backend.asked[0].headers["X-Note"].encode("utf-8", "surrogateescape") == note

    run(test())


def test_a_header_with_a_line_end_goes_nowhere() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend:
            for value in ("a\r\nX-Admin: 1", "a\nb", "a\0b"):
                with pytest.raises(ValueError, match="line end"):
                    await Client(backend.url, {}, Patience()).ask("POST", "/tokenize", {"X-Note": value}, b"{}")
            assert not backend.asked

    run(test())
