"""Back ends that fail, in the ways that servers fail; others that take over; the rest of a dead one."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from paddock_gateway.contract import BackendState, Used
from paddock_gateway.proxy.client import Client, Patience
from paddock_gateway.settings import Backend, Health, Pi, SettingsError
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, Places, gateway, raw_backend, run, until
from tests.unit.gateway.proxy.scripted import HELLO, chat, endless, json_answer, streaming

NOWHERE = "http://127.0.0.1:9"
HTML = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 26\r\n\r\n<h1>nginx at 10.0.0.7</h1>"
BROKEN = {
    "answers HTML": HTML,
    "answers HTML as if all were well": HTML.replace(b"502 Bad Gateway", b"200 OK"),
    "closes at once": b"",
    "sends no HTTP": b"\x16\x03\x01 garbage 10.0.0.7\r\n\r\n",
    "sends a huge header": b"HTTP/1.1 200 OK\r\nX-A: " + b"10.0.0.7" * 9000 + b"\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.7/\r\nContent-Length: 0\r\n\r\n",
    "sends half of its answer": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{10.0.0.7",
    "ends a stream before it begins": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
    "streams something else": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 15\r\n\r\n<p>10.0.0.7\n\n\n\n",
    "refuses the key": b'HTTP/1.1 401 X\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{"error":{"message":"bad key"}}',
    "answers without end": b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n" + b"10.0.0.7" * 300_000,
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("stream", [True, False])
def test_a_back_end_that_fails_is_told_in_words_that_are_not_its_own(how: str, stream: bool) -> None:
    async def test() -> None:
        async with raw_backend(BROKEN[how]) as url, gateway(url, places=Places()) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=stream))
            assert status == 502, said
            assert json.loads(said)["error"]["code"] == "backend_failed"
            assert b"10.0.0.7" not in said and b"127.0.0.1" not in said and b"bad key" not in said
            assert not under.places.running and under.places.settled[0][1:] == (Used(), False)

    run(test())


@pytest.mark.parametrize("how", BROKEN)
def test_another_back_end_takes_over_before_the_first_byte(how: str) -> None:
    async def test() -> None:
        async with (
            raw_backend(BROKEN[how]) as broken,
            BackendUnderTest(streaming(*HELLO)).serving() as well,
            gateway(broken, well.url) as under,
        ):
            under.places.states.clear()  # as if the first look had not found it out
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=True))
            assert (status, said) == (200, b"".join(HELLO))
            assert under.log.retries == ["b0"]
            assert [sorted(ask.exclude) for ask in under.places.asked] == [[], ["b0"]]
            assert len(under.log.rows) == 1 and under.log.rows[0].backend == "b1"

    run(test())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begun", [b"", HELLO[0]])
def test_chunks_that_cannot_be_read_end_the_answer(begun: bytes, stream: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = head + (b"%x\r\n%s\r\n" % (len(begun), begun) if begun else b"")

    async def test() -> None:
        async with raw_backend(sent, then=b"zz\r\n", hang=True) as url, gateway(url, patience=Patience(look_s=0.05)) as under:
            under.places.states.clear()
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=stream))
            assert status == (200 if begun and stream else 502) and b"broke off its answer" in said
            assert not under.places.running

    run(test())


def test_a_back_end_that_is_silent_is_given_up_in_time() -> None:
    async def test() -> None:
        patience = Patience(answer_s=0.05, look_s=0.05)
        async with raw_backend(b"", hang=True) as url, gateway(url, patience=patience) as under:
            under.places.states.clear()
            status, said, _ = await under.post("/v1/chat/completions", chat())
            assert status == 504 and b"in time" in said
        async with BackendUnderTest(endless(*HELLO[:2])).serving() as backend, gateway(backend.url, patience=patience) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=True))
            assert status == 200 and b"backend_silent" in said
            assert (await under.row()).status_code == 504

    run(test())


def test_an_event_without_an_end_does_not_fill_memory() -> None:
    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b"data: " + b"x" * 1_000_000)

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=True))
            assert status == 502 and b"without an end" in said
            await until(lambda: backend.left == 1)

    run(test())


def test_one_that_loads_its_model_is_passed_over_and_does_not_rest() -> None:
    loading = json_answer({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)

    async def test() -> None:
        async with BackendUnderTest(loading).serving() as first, BackendUnderTest(streaming(*HELLO)).serving() as second:
            async with gateway(first.url, second.url) as under:
                for _ in range(3):
                    status, _, _ = await under.post("/v1/chat/completions", chat(stream=True))
                    assert status == 200
                assert under.upstream.pool["b0"].up
            async with gateway(first.url) as under:
                status, said, headers = await under.post("/v1/chat/completions", chat())
                assert status == 503 and b"loading" in said and headers["Retry-After"] == "5"

    run(test())


def test_a_request_that_no_back_end_can_answer_makes_none_of_them_rest() -> None:
    async def test() -> None:
        answer = json_answer({"error": {"code": 500, "message": "the template does not fit", "type": "server_error"}}, 500)
        async with (
            BackendUnderTest(answer).serving() as first,
            BackendUnderTest(answer).serving() as second,
            gateway(first.url, second.url, health=Health(every_s=600, failures=1)) as under,
        ):
            status, said, _ = await under.post("/v1/chat/completions", chat())
            assert status == 502 and b"the template does not fit" in said
            assert all(backend.up for backend in under.upstream.pool)

    run(test())


def test_a_dead_back_end_rests_and_is_tried_again() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend:
            health = Health(every_s=0.005, failures=2, cooldown_s=0.02)
            async with gateway(backend.url, health=health) as under:
                assert under.places.states[0] == ("b0", BackendState(up=True, slots=4))
                found = under.upstream.pool["b0"]
                client, found.client = found.client, Client(NOWHERE, {}, Patience())
                await until(lambda: not found.up)
                assert found.failures >= 2 and under.places.states[-1][1].up is False
                status, _, _ = await under.post("/v1/chat/completions", chat())
                assert status == 503
                found.client = client
                await until(lambda: found.up)
                assert under.places.states[-1] == ("b0", BackendState(up=True, slots=4))
                assert (await under.post("/v1/chat/completions", chat(stream=True)))[0] == 200

    run(test())


def test_one_that_only_looks_found_down_is_looked_at_again_soon() -> None:
    async def test() -> None:
        backend, health = BackendUnderTest(streaming(*HELLO)), Health(every_s=0.005, failures=1, cooldown_s=600)
        async with backend.serving(), gateway(backend.url, health=health) as under:
            found = under.upstream.pool["b0"]
            client, found.client = found.client, Client(NOWHERE, {}, Patience())
            await until(lambda: not found.up)
            found.client = client
            await until(lambda: found.up)

    run(test())


def test_no_more_run_at_once_than_the_small_hosts_settings_say() -> None:
    async def test() -> None:
        backend = BackendUnderTest(streaming(*HELLO), slots=9)
        for most, slots in ((4, 4), (20, 9)):
            async with backend.serving(), gateway(backend.url, pi=Pi("fast", max_concurrent=most)) as under:
                assert under.places.states[0] == ("b0", BackendState(up=True, slots=slots))

    run(test())


def test_slots_are_followed_as_they_change() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url, health=Health(every_s=0.005)) as under:
            backend.slots = 9
            await until(lambda: under.places.states[-1] == ("b0", BackendState(up=True, slots=9)))

    run(test())


def test_of_a_router_it_is_known_what_is_loaded() -> None:
    async def router(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/models":
            models = {"one": "loaded", "two": "unloaded", "three": "loaded"}
            given = ["--parallel", "5", "-m"]
            return web.json_response({"data": [{"id": name, "status": {"value": said, "args": given}} for name, said in models.items()]})
        assert request.query["model"] in ("one", "three")
        return web.json_response({"total_slots": 3})

    async def test() -> None:
        runner = web.ServerRunner(web.Server(router))  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with gateway(url, declared={"b0": Backend(url, router=True, models_max=2)}) as under:
            assert under.places.states == [("b0", BackendState(True, 1, frozenset({"one", "three"}), 2, {"one": 3, "two": 5, "three": 3}))]
        await runner.cleanup()

    run(test())


def test_the_back_ends_key_goes_up_and_nobody_sees_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("# of b0\nsk-backend\n")

    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO, headers={"X-Key": "sk-backend"})).serving() as backend:
            declared = {"b0": Backend(backend.url, key_file=str(tmp_path / "key"))}
            async with gateway(backend.url, declared=declared) as under:
                _, said, headers = await under.post("/v1/chat/completions", chat(stream=True))
                assert backend.asked[0].headers["Authorization"] == "Bearer sk-backend"
                assert "sk-backend" not in str(headers) and b"sk-backend" not in said

    run(test())


def test_a_back_end_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    async def test() -> None:
        backend = BackendUnderTest(streaming(*HELLO))
        runner = web.ServerRunner(web.Server(backend))  # type: ignore[arg-type]
        await runner.setup()
        path = str(tmp_path / "llama.sock")
        await web.UnixSite(runner, path).start()
        async with gateway(f"unix:{path}") as under:
            assert (await under.post("/v1/chat/completions", chat(stream=True)))[:2] == (200, b"".join(HELLO))
        await runner.cleanup()

    run(test())


@pytest.mark.parametrize("content", [None, "", "# nothing\n", "ключ\n"])
def test_a_key_file_without_a_key_is_told_at_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)

    async def test() -> None:
        async with gateway(NOWHERE, declared={"b0": Backend(NOWHERE, key_file=str(file))}):
            pass

    with pytest.raises(SettingsError, match=r"backends\.b0\.key_file"):
        run(test())


def test_the_gateway_starts_before_its_back_ends() -> None:
    async def test() -> None:
        async with gateway(NOWHERE, health=Health(failures=1)) as under:
            assert under.places.states == [("b0", BackendState(up=False, slots=0))]
            status, _, _ = await under.post("/v1/chat/completions", chat())
            assert status == 503
        assert not [task for task in asyncio.all_tasks() if "_follow" in repr(task)], "nothing looks at back ends any more"

    run(test())
