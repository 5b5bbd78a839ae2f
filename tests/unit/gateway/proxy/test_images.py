"""Images: a back end that is no llama-server, asked on the one route that it has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paddock_gateway.settings import Backend, Model, Target
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, gateway, run
from tests.unit.gateway.proxy.scripted import chat, json_answer

MADE = {"created": 1, "id": "1", "data": [{"b64_json": "iVBORw0KGgo=", "url": ""}], "usage": {"total_tokens": 0}}
PATH = "/v1/images/generations"
DRAWS = {"picture": Model((Target("b0", "ssd-1b"),), aliases=("image",), image_size="512x512")}


def asked(path: str, body: dict[str, Any], answer: Any = MADE, status: int = 200) -> tuple[int, Any, list[Any], list[Any]]:
    """What the caller gets, what the back end was asked, and the rows."""

    async def test() -> tuple[int, Any, list[Any], list[Any]]:
        async with BackendUnderTest(json_answer(answer, status)).serving() as back_end:
            declared = {"b0": Backend(back_end.url, slots=1)}
            async with gateway(back_end.url, declared=declared, more=DRAWS) as under:
                code, said, _ = await under.post(path, body)
                return code, json.loads(said), [each.body for each in back_end.asked], under.log.rows

    return run(test())


def test_an_image_is_asked_for_under_the_name_and_in_the_size_that_the_server_knows() -> None:
    code, said, (sent,), (row,) = asked(PATH, {"model": "image", "prompt": "a paddock"})
    assert (code, said) == (200, MADE)
    assert sent == {"model": "ssd-1b", "prompt": "a paddock", "size": "512x512", "response_format": "b64_json"}
    assert (row.path, row.model, row.backend, row.status_code) == (PATH, "picture", "b0", 200)


def test_the_size_that_a_request_names_stays_and_the_image_itself_comes_back() -> None:
    _, _, (sent,), _ = asked(PATH, {"model": "picture", "prompt": "x", "size": "256x256", "response_format": "url"})
    assert (sent["size"], sent["response_format"]) == ("256x256", "b64_json")


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/chat/completions", chat(model="picture"), "picture makes images: ask it at /v1/images/generations."),
        ("/v1/embeddings", {"model": "picture", "input": "x"}, "picture makes images"),
        (PATH, {"model": "small", "prompt": "x"}, "small makes no images."),
        (PATH, {"model": "picture", "prompt": "x", "n": 11}, '"n" is to be 10 at most.'),
        (PATH, {"model": "picture", "prompt": "x", "step": 151}, '"step" is to be 150 at most.'),
        (PATH, {"model": "picture", "prompt": "x", "file": "http://192.0.2.1/"}, '"file" is not passed on'),
        (PATH, {"model": "picture", "prompt": "x", "ref_images": ["http://192.0.2.1/"]}, '"ref_images" is not passed on'),
    ],
)
def test_what_does_not_fit_is_refused_and_asks_no_back_end(path: str, body: dict[str, Any], told: str) -> None:
    code, said, sent, _ = asked(path, body)
    assert code == 400 and told in said["error"]["message"]
    assert sent == []


def test_what_the_server_refuses_is_told_in_its_words() -> None:
    code, said, _, _ = asked(PATH, {"model": "picture", "prompt": "x"}, {"error": {"message": "no such size", "code": 400}}, 400)
    assert code == 400 and said["error"]["message"] == "no such size"


def test_such_a_server_is_not_asked_for_its_slots() -> None:
    async def test() -> None:
        async with BackendUnderTest(json_answer(MADE)).serving() as back_end:
            back_end.slots = 9
            async with gateway(back_end.url, declared={"b0": Backend(back_end.url, slots=1)}, more=DRAWS) as under:
                await under.upstream.pool.look(under.upstream.pool["b0"])
                assert under.places.states[-1][1].slots == 1

    run(test())
