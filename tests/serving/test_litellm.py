"""The role `litellm` on a host: LiteLLM before two llama-servers of one model, in its sandbox.

The tests are one story, in the order of the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

INVENTORY = """
fleet: litellms
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        api_key: true
        preset: {threads: 1, threads-batch: 1}
        instances: {chat: {model: demo, listen: 127.0.0.1:8081, count: 2}}
      litellm: {health: {cooldown_s: 1}}
models: {demo: {source: tiny, aliases: [default], preset: {ctx-size: 512}}}
users:
  alice: {limits: {requests: 4}}
  bob:
"""

UNIT = "paddock-litellm.service"
SERVERS = ("llama-server-chat-1", "llama-server-chat-2")

ASK = """curl --silent --max-time 60 --write-out '\\n%{{http_code}}' --config - http://127.0.0.1:4000{path} <<'END'
header = "Authorization: Bearer {key}"
{body}
END"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("litellms", tmp_path_factory.mktemp("litellms"), INVENTORY, ready=True) as fleet:
        done = fleet.paddock("up", "--lab", "--yes")
        print(done.stdout, done.stderr, flush=True)
        if done.returncode != 0:
            print(fleet.on("box", f"journalctl --no-pager -u {UNIT} | tail -n 60", check=False), flush=True)
        assert done.returncode == 0
        yield fleet


def key(fleet: LabFleet, user: str) -> str:
    done = fleet.paddock("keys", "show", user, "--key", "--lab")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(fleet: LabFleet, key: str, path: str = "/v1/models", body: Any = None) -> tuple[int, Any]:
    """Status and JSON."""
    said = "" if body is None else f'header = "Content-Type: application/json"\ndata = {json.dumps(json.dumps(body))}'
    text, _, status = fleet.on("box", ASK.format(path=path, key=key, body=said)).rpartition("\n")
    return int(status), json.loads(text)


def chat(fleet: LabFleet, key: str, model: str = "demo") -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    return ask(fleet, key, "/v1/chat/completions", body)


def test_a_user_is_answered_by_the_models_name_and_by_its_alias(fleet: LabFleet) -> None:
    bob = key(fleet, "bob")
    status, models = ask(fleet, bob)
    assert status == 200 and {each["id"] for each in models["data"]} == {"demo", "default"}
    for model in ("demo", "default"):
        status, answer = chat(fleet, bob, model)
        assert status == 200 and answer["choices"][0]["message"]["content"], answer


def test_a_key_of_nobody_and_none_are_refused(fleet: LabFleet) -> None:
    for wrong in ("sk-of-nobody", ""):
        assert ask(fleet, wrong)[0] == 401
        assert chat(fleet, wrong)[0] == 401


def test_more_requests_a_minute_than_the_users_are_refused(fleet: LabFleet) -> None:
    alice = key(fleet, "alice")
    answers = [chat(fleet, alice)[0] for _ in range(10)]
    assert answers[0] == 200 and 429 in answers and set(answers) == {200, 429}
    assert chat(fleet, key(fleet, "bob"))[0] == 200


@pytest.mark.parametrize("stopped", SERVERS)
def test_one_server_answers_while_the_other_is_stopped(fleet: LabFleet, stopped: str) -> None:
    bob = key(fleet, "bob")
    fleet.on("box", f"systemctl stop {stopped}")
    try:
        assert [chat(fleet, bob)[0] for _ in range(6)] == [200] * 6
    finally:
        fleet.on("box", f"systemctl start {stopped}")
    time.sleep(5)  # LiteLLM's cooldown, which is a second, and more


def test_a_second_up_changes_nothing(fleet: LabFleet) -> None:
    before = fleet.on("box", f"systemctl show -P MainPID {UNIT}")
    assert "0 changed" in fleet.up().stdout
    assert fleet.on("box", f"systemctl show -P MainPID {UNIT}") == before


def test_it_is_no_more_exposed_than_others(fleet: LabFleet) -> None:
    assert fleet.exposed("box") == ""


def test_verify_fails_while_it_is_stopped(fleet: LabFleet) -> None:
    fleet.on("box", f"systemctl stop {UNIT}")
    done = fleet.paddock("verify", "--lab")
    assert done.returncode == 1 and "litellm" in done.stdout + done.stderr
    fleet.up()
