"""What a request asks of the dispatcher, by its route and fields."""

from typing import Any

import pytest

from paddock_gateway.contract import Account, Ask
from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.models import Models
from paddock_gateway.proxy.prepared import DEFAULT_TOKENS, prepare
from paddock_gateway.proxy.routes import ROUTES
from paddock_gateway.settings import Backend, Configuration, Limits, Model, Target

MODELS = Models(
    Configuration(
        ("127.0.0.1:0",),
        database="sqlite:none",
        pepper_file="none",
        state="none",
        backends={"b": Backend("http://192.0.2.10:8080")},
        models={"small": Model((Target("b", "small"),))},
    )
)
ANNA = Account("anna", "k1", None, Limits())


def asked(path: str, body: bytes) -> Ask:
    return prepare(MODELS, ANNA, ROUTES[path], Body(body), {}).wanted.ask


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        (b'"prompt":""', DEFAULT_TOKENS),
        (b'"prompt":"","max_tokens":1,"n_predict":5000', 5000),
        (b'"prompt":"","max_tokens":100,"n":3', 300),
        (b'"prompt":["a","b"],"max_tokens":100', 200),
        (b'"prompt":[["a"],[7],{"prompt_string":"x"}],"max_tokens":100', 300),
        (b'"prompt":[1,2,"a"],"max_tokens":100', 100),
        (b'"prompt":[],"max_tokens":100', 100),
    ],
)
def test_what_is_held_of_a_limit_counts_every_answer_to_every_prompt(fields: bytes, tokens: int) -> None:
    body = b'{"model":"small",' + fields + b"}"
    assert asked("/v1/completions", body).tokens == tokens + len(body) // 3


def test_a_list_of_millions_of_prompts_is_not_taken_apart() -> None:
    many: Any = b'{"prompt":[' + b'"",' * 500_000 + b'""],"max_tokens":1}'
    assert asked("/v1/completions", many).tokens >= 500_001
