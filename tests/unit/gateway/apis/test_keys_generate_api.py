"""`/keys/generate`: who gets a key without one, and for whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from paddock_gateway.settings import SettingsError
from tests.unit.gateway.apis.stubs import ADMIN, ANN, Stage, served

ELSEWHERE = {"model": "qwen2.5:3b", "keys_generate": {"networks": ["192.0.2.0/24"]}}


def answers(stage: Stage, *bodies: Any, headers: dict[str, str] | None = None) -> list[tuple[int, Any]]:
    async def go() -> list[tuple[int, Any]]:
        async with served(stage.parts) as client:
            found = []
            for body in bodies:
                async with client.post("/keys/generate", data=json.dumps(body), headers=headers) as response:
                    found.append((response.status, await response.json()))
            return found

    return asyncio.run(go())


def test_a_caller_of_the_networks_gets_a_key_and_another_for_the_same_owner() -> None:
    stage = Stage()
    (first, told), (second, _) = answers(stage, {"owner": "my-device"}, {"owner": "my-device"})
    assert (first, second) == (200, 200)
    assert set(told) == {"api_key", "owner", "created_at"}
    assert (told["owner"], type(told["created_at"])) == ("my-device", int)
    assert stage.users.kept[told["api_key"]].user == "my-device"


@pytest.mark.parametrize("owner", ["ann", "root", "declared"])
def test_nobody_gets_a_key_of_somebody_else(owner: str) -> None:
    stage = Stage()
    ((status, told),) = answers(stage, {"owner": owner})
    assert (status, told) == (409, {"detail": f'"{owner}" is a user of this gateway: choose another name.'})
    assert len(stage.users.kept) == 3


@pytest.mark.parametrize("change", [{"disabled": True}, {"admin": True}])
def test_an_owner_whom_an_administrator_has_changed_gets_none(change: dict[str, bool]) -> None:
    stage = Stage()
    stage.users.add("sk-device", "device", label="keys/generate", **change)
    assert answers(stage, {"owner": "device"})[0][0] == 409


def test_an_owner_whose_keys_were_revoked_is_nobodys_to_take() -> None:
    stage = Stage()
    del stage.users.kept["sk-admin"]
    assert answers(stage, {"owner": "root"})[0][0] == 409
    assert len(stage.users.kept) == 2


def test_it_is_off_unless_the_settings_say_so() -> None:
    stage = Stage(pi={"model": "qwen2.5:3b"})
    ((status, told),) = answers(stage, {"owner": "my-device"})
    assert (status, told["detail"][:33]) == (401, "This gateway makes no keys for ca")
    assert answers(stage, {"owner": "my-device"}, headers=ANN)[0][0] == 403
    assert answers(stage, {"owner": "my-device"}, headers=ADMIN)[0][0] == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_from_elsewhere_it_is_refused_whatever_the_headers_say(header: str) -> None:
    assert answers(Stage(pi=ELSEWHERE), {"owner": "my-device"})[0][0] == 403
    assert answers(Stage(pi=ELSEWHERE), {"owner": "my-device"}, headers={header: "192.0.2.7"})[0][0] == 403
    assert answers(Stage(), {"owner": "my-device"}, headers={header: "127.0.0.1"})[0][0] == 403


def test_a_page_in_a_browser_gets_none() -> None:
    assert answers(Stage(), {"owner": "my-device"}, headers={"Origin": "http://pi.home.example"})[0][0] == 403


def test_a_network_that_is_none_stops_the_start() -> None:
    stage = Stage(pi={"model": "qwen2.5:3b", "keys_generate": {"networks": ["tailscale0"]}})
    with pytest.raises(SettingsError, match=r"pi\.keys_generate\.networks: 'tailscale0' does not appear"):
        answers(stage, {"owner": "my-device"})


def test_keys_a_minute_and_keys_an_owner_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = answers(Stage(), *({"owner": f"device-{number}"} for number in range(11)))
    assert [status for status, _ in found] == [200] * 10 + [429]
    monkeypatch.setattr("paddock_gateway.apis.keys_generate.AN_OWNER", 2)
    assert [status for status, _ in answers(Stage(), *[{"owner": "device"}] * 3)] == [200, 200, 409]


@pytest.mark.parametrize("owner", ["", "a" * 129, "a\u0000b", "line\nbreak", 5, None])
def test_a_name_that_is_none_is_refused(owner: Any) -> None:
    ((status, told),) = answers(Stage(), {"owner": owner})
    assert (status, told["detail"][0]["loc"]) == (422, ["body", "owner"])


def test_while_the_database_is_away_it_says_so() -> None:
    stage = Stage()
    stage.users.away = True
    assert answers(stage, {"owner": "my-device"})[0] == (503, {"detail": "The database is away."})
