"""What the gateway's other APIs ask through the contract's Upstream."""

import pytest

from paddock_gateway.contract import Used
from paddock_gateway.errors import Failure
from tests.unit.gateway.proxy.gateway_under_test import ANNA, BackendUnderTest, gateway, run, until
from tests.unit.gateway.proxy.scripted import DONE, HELLO, TIMINGS, USAGE, chat, chunk, endless, json_answer, streaming


def test_each_event_comes_parsed_and_the_row_has_the_inner_apis_path() -> None:
    events = [*HELLO[:3], chunk({}, finish_reason="stop"), chunk(usage=USAGE, timings=TIMINGS), DONE]

    async def test() -> None:
        async with BackendUnderTest(streaming(*events)).serving() as backend, gateway(backend.url) as under:
            chunks = under.upstream.chunks(ANNA, "/v1/chat/completions", chat(max_tokens=3), logged_as="/generate", request_id="r")
            found = [said async for said in chunks]
            assert found[-1]["usage"] == USAGE and found[1]["choices"][0]["delta"] == {"content": "Hel"}
            assert backend.asked[0].body["stream_options"] == {"include_usage": True}
            row = await under.row()
            assert (row.path, row.status_code, row.username, row.request_id) == ("/generate", 200, "anna", "r")
            assert (row.prompt_tokens, row.completion_tokens, row.ttft_ms is None) == (5, 2, False)
            assert under.places.settled[0][1:] == (Used(5, 2, 2), True)

    run(test())


def test_closing_it_ends_the_request_at_the_back_end() -> None:
    async def test() -> None:
        async with BackendUnderTest(endless(*HELLO[:2])).serving() as backend, gateway(backend.url) as under:
            chunks = under.upstream.chunks(ANNA, "/v1/chat/completions", chat(), logged_as="/generate")
            assert await anext(chunks)
            await chunks.aclose()
            await until(lambda: backend.left == 1)
            assert (await under.row()).status_code == 499 and not under.places.running

    run(test())


def test_the_context_is_the_least_that_the_back_ends_say() -> None:
    async def test() -> None:
        both = BackendUnderTest(streaming(*HELLO))
        async with both.serving(), gateway(both.url, both.url) as under:
            under.upstream.pool["b1"].meta["small"] = {"n_ctx": 256}
            assert under.upstream.context("small") == under.upstream.context("fast") == 256
            assert under.upstream.context("large") == 0, "which nobody has said"

    run(test())


def test_a_refusal_is_a_failure() -> None:
    error = json_answer({"error": {"code": 400, "message": "too long", "type": "x"}}, 400)

    async def test() -> None:
        async with BackendUnderTest(error).serving() as backend, gateway(backend.url) as under:
            for body, status in ((chat(), 400), (chat(model="no"), 404)):
                with pytest.raises(Failure) as raised:
                    await anext(under.upstream.chunks(ANNA, "/v1/chat/completions", body, logged_as="/generate"))
                assert raised.value.status == status == under.log.rows[-1].status_code
            assert not under.places.running
            backend.answer = streaming(HELLO[0], b'data: {"error":{"code":500,"message":"out of memory"}}\n\n')
            with pytest.raises(Failure, match="out of memory"):
                async for _ in under.upstream.chunks(ANNA, "/v1/chat/completions", chat(), logged_as="/generate"):
                    pass

    run(test())
