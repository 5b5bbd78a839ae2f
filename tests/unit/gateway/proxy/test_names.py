"""Models by the names that callers use."""

import json

from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, gateway, run
from tests.unit.gateway.proxy.scripted import HELLO, chat, streaming


def test_the_list_has_what_the_key_may_use_and_nothing_of_back_ends() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url, backend.url) as under:
            _, raw, _ = await under.post("/v1/models", key=KEY, method="GET")
            said = json.loads(raw)
            assert said["object"] == "list"
            assert [entry["id"] for entry in said["data"]] == ["small", "fast", "large"]
            small = said["data"][0]
            assert (small["object"], small["owned_by"], small["aliases"], small["meta"]) == (
                "model",
                "llamacpp",
                ["fast"],
                {"n_ctx": 512, "n_params": 7},
            )
            assert b"secret" not in raw and b"127.0.0.1" not in raw and b"b0" not in raw
            _, raw, _ = await under.post("/models", key="sk-boris", method="GET")
            assert [entry["id"] for entry in json.loads(raw)["data"]] == ["small", "fast"]
            assert [row.path for row in under.log.rows] == ["/v1/models", "/models"]

    run(test())


def test_an_id_that_ends_in_gguf_works() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            status, _, _ = await under.post("/v1/chat/completions", chat(model="large", stream=True))
            assert (status, backend.asked[0].body["model"]) == (200, "large.gguf")

    run(test())


def test_who_may_use_one_model_need_not_name_it() -> None:
    """As a llama-server by itself is asked."""

    async def test() -> None:
        event = b'data: {"index":0,"content":"x","stop":true}\n\n'
        async with BackendUnderTest(streaming(event)).serving() as backend, gateway(backend.url) as under:
            status, said, _ = await under.post("/completion", {"prompt": "x", "stream": True}, key="sk-boris")
            assert (status, said) == (200, event)
            assert backend.asked[0].body["model"] == "small"

    run(test())


def test_a_model_is_shown_by_each_of_its_names_to_who_may_use_it() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            listed = {each["id"]: each for each in json.loads((await under.post("/v1/models", method="GET"))[1])["data"]}
            for name in ("small", "fast", "large"):
                status, raw, _ = await under.post(f"/v1/models/{name}", method="GET")
                assert (status, json.loads(raw)) == (200, listed[name])
            for name in ("large", "sma", "a/b%2F..", "%00"):
                status, raw, _ = await under.post(f"/v1/models/{name}", key="sk-boris", method="GET")
                assert status == 404 and json.loads(raw)["error"]["code"] == "model_not_found"
            assert {row.path for row in under.log.rows} == {"/v1/models"}, "a path that a caller makes up is no label"

    run(test())
