"""Requests that are made from the gateway's own description, right and wrong ones, and odd JSON for every route: no 500, no leak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from paddock_gateway.proxy.routes import ROUTES
from tests.gateway.process import Gateway, back_end, key_of, running
from tests.share import WHOLE, chance, spread

MASTER = "sk-master-of-a-test"
EXAMPLES = 200 if WHOLE else 5
"""Of each call, right ones, and as many wrong ones."""
ODD = 10_000 if WHOLE else 200
LARGEST_MIB = 128


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "master").write_text(MASTER + "\n")
    with back_end(8) as url:
        configuration = {
            "backends": {"one": {"url": url}},
            "models": {"tiny": {"targets": [{"backend": "one", "model": "tiny"}], "aliases": ["default"]}},
            "health": {"every_s": 600, "failures": 10**6, "retries": 0},
            "pi": {"model": "tiny", "keys_generate": {}},
            "master_key_file": str(directory / "master"),
            "access_log": True,
        }
        with running(directory, configuration, {"anna": {}, "operator": {"admin": True}}) as found:
            yield found


def resident_mib(gateway: Gateway) -> int:
    assert gateway.process
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) // 1024


@pytest.fixture(autouse=True)
def nothing_is_left(gateway: Gateway) -> Iterator[None]:
    assert gateway.process
    before = len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))
    yield
    requests.post(f"{gateway.url}/admin/resume", headers=with_key("operator"), timeout=10)
    said = gateway.status()
    assert said["waiting"] == said["running"] == 0
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    assert requests.post(f"{gateway.url}/v1/chat/completions", json=chat, headers=with_key("anna"), timeout=10).status_code == 200
    assert '"exception"' not in gateway.log.read_text()
    assert gateway.rows("SELECT count(*) FROM llama_requests WHERE status_code = 500") == [(0,)]
    assert len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir())) <= before + 8
    assert resident_mib(gateway) < LARGEST_MIB


def with_key(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {MASTER if user == 'master' else key_of(user)}"}


def bounded(examples: int, what: str) -> Any:
    """The same examples with the same seed; nothing is kept."""

    def of(test: Any) -> Any:
        slow = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
        limits = settings(
            max_examples=examples, deadline=None, database=None, phases=(Phase.generate, Phase.shrink), suppress_health_check=slow
        )
        return seed(chance(what).randrange(2**32))(limits(test))

    return of


USERS = st.sampled_from(["anna", "operator", "master", "nobody"])


def test_no_request_that_the_description_allows_or_forbids_is_a_500(gateway: Gateway) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 40
    passed = [each for each in operations if each.path in ROUTES]  # all alike in the description
    operations = [*(each for each in operations if each.path not in ROUTES), *spread("routes", passed, 6)]
    checks = CHECKS.get_by_names(
        ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
    )
    for operation in operations:
        wrong = [GenerationMode.NEGATIVE] if operation.body or operation.query else []
        for mode in (GenerationMode.POSITIVE, *wrong):

            @bounded(EXAMPLES, f"{operation.label} {mode}")
            @given(case=operation.as_strategy(generation_mode=mode), user=USERS)
            def call(case: schemathesis.Case, user: str) -> None:
                answer = case.call(base_url=gateway.url, headers=with_key(user), timeout=30)
                assert answer.status_code != 500 and b"internal error" not in answer.content
                if answer.status_code < 500:
                    case.validate_response(answer, checks=checks)

            call()


NAMES = (
    *("messages", "prompt", "input", "content", "role", "stream", "stream_options", "max_tokens", "n_predict", "n", "temperature", "top_p"),
    *("top_k", "stop", "seed", "tools", "tool_choice", "functions", "function_call", "response_format", "json_schema", "grammar", "user"),
    *("logit_bias", "logprobs", "n_probs", "cache_prompt", "id_slot", "system", "thinking", "instructions", "documents", "query", "top_n"),
    *("key", "keys", "key_alias", "user_id", "duration", "models", "metadata", "max_budget", "name", "email", "context_sizes"),
    *("type", "text", "image_url", "source", "media_type", "data", "cache_control", "arguments", "parameters", "dimensions"),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["tiny", "default", "user", "assistant", "system", "tool", "text", "image_url", "json_schema", "sk-x"])
)


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES), values, max_size=6)


ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | objects(inner), max_leaves=20)
PATHS = st.sampled_from(sorted([*ROUTES, "/generate", "/benchmark", "/keys/generate", "/key/generate", "/key/delete", "/key/block"]))


def test_no_odd_json_is_a_500(gateway: Gateway) -> None:
    with requests.Session() as session:

        @bounded(ODD, "odd JSON")
        @given(path=PATHS, body=objects(ANYTHING), model=st.sampled_from(["tiny", "default", "tny", 7]), user=USERS)
        def post(path: str, body: dict[str, Any], model: object, user: str) -> None:
            if path == "/benchmark":
                body.pop("iterations", None)
            answer = session.post(f"{gateway.url}{path}", json={"model": model, **body}, headers=with_key(user), timeout=30)
            assert answer.status_code != 500 and b"internal error" not in answer.content, answer.content[:500]

        post()
