"""LiteLLM's management calls: keys made, shown, blocked and revoked with the master key."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from paddock_gateway.apis import litellm
from paddock_gateway.settings import SettingsError
from tests.unit.gateway.apis.stubs import ADMIN, ANN, Stage, served

MASTER = {"Authorization": "Bearer sk-master"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "master").write_text("sk-master\n")
    return Stage(master_key_file=str(tmp_path / "master"))


def call(stage: Stage, path: str, body: Any = None, headers: dict[str, str] = MASTER) -> tuple[int, Any]:
    """POST with a body, GET without one."""

    async def go() -> tuple[int, Any]:
        async with served(stage.parts) as client:
            data = None if body is None else json.dumps(body)
            async with client.request("GET" if body is None else "POST", path, data=data, headers=headers) as response:
                return response.status, await response.json()

    return asyncio.run(go())


def test_a_key_with_limits_is_made_and_shown_once(stage: Stage) -> None:
    asked = {"models": ["default"], "key_alias": "test", "duration": "30d", "max_budget": None, "rpm_limit": 60, "tpm_limit": 9000}
    status, told = call(stage, "/key/generate", {**asked, "max_parallel_requests": 7, "metadata": {"team": "home"}})
    assert status == 200
    record = stage.users.kept[told["key"]]
    assert (record.user, record.label, record.models) == ("test", "test", ("default",))
    assert record.limits is not None
    assert (record.limits.requests, record.limits.tokens, record.limits.window_s, record.limits.parallel) == (60, 9000, 60, 7)
    assert abs(datetime.fromisoformat(told["expires"]).timestamp() - time.time() - 30 * 86400) < 60
    assert (told["token"], told["key_name"], told["rpm_limit"], told["max_budget"]) == (record.id, record.hint, 60, None)
    status, info = call(stage, f"/key/info?key={told['key']}")
    assert (status, info["key"], info["info"]["key_alias"], info["info"]["spend"]) == (200, told["key"], "test", 0)
    assert told["key"] not in json.dumps(info["info"])


def test_without_a_user_each_key_has_one_of_its_own(stage: Stage) -> None:
    users = [call(stage, "/key/generate", {})[1]["user_id"] for _ in range(2)]
    assert users[0] != users[1]
    assert call(stage, "/key/generate", {"user_id": "ann", "key_alias": "second"})[1]["user_id"] == "ann"


@pytest.mark.parametrize("body", [{"models": []}, {"models": None}, {"models": ["all-proxy-models"]}, {"duration": "permanent"}])
def test_no_models_are_all_and_no_duration_is_for_ever(stage: Stage, body: Any) -> None:
    _, told = call(stage, "/key/generate", body)
    assert (told["models"], told["expires"]) == ([], None)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"max_budget": 10}, "max_budget", "counts no money"),
        ({"models": ["defualt"]}, "models", 'Did you mean "default"?'),
        ({"duration": "soon"}, "duration", "a number and a unit"),
        ({"duration": "0d"}, "duration", "a number and a unit"),
        ({"duration": "999999999mo"}, "duration", "a number and a unit"),
        ({"team_id": "home"}, "team_id", "has no teams"),
        ({"model_rpm_limit": {"qwen": 5}}, "model_rpm_limit", "gateway's settings"),
        ({"allowed_routes": ["/v1/models"]}, "allowed_routes", "every route"),
        ({"key": "sk-mine"}, "key", "never chosen"),
        ({"key_type": "management"}, "key_type", "llm_api"),
    ],
)
def test_what_a_key_cannot_have_is_refused_by_name(stage: Stage, body: Any, field: str, words: str) -> None:
    status, told = call(stage, "/key/generate", body)
    assert (status, told["error"]["param"], told["error"]["type"], told["error"]["code"]) == (400, field, "bad_request_error", "400")
    assert words in told["error"]["message"]
    assert len(stage.users.kept) == 3


@pytest.mark.parametrize("body", [{"rpm_limit": 0}, {"rpm_limit": "fast"}, {"key_alias": ""}, {"key_alias": "a\nb"}, {"models": "qwen"}])
def test_what_does_not_fit_is_refused_with_its_place(stage: Stage, body: Any) -> None:
    status, told = call(stage, "/key/generate", body)
    assert (status, told["error"]["param"]) == (422, next(iter(body)))


def test_an_alias_names_one_key(stage: Stage) -> None:
    assert call(stage, "/key/generate", {"key_alias": "test"})[0] == 200
    assert call(stage, "/key/generate", {"key_alias": "test"})[0] == 400
    assert call(stage, "/key/generate", {"key_alias": "ann"})[0] == 400  # a user's name
    del stage.users.kept["sk-ann"]
    assert call(stage, "/key/generate", {"key_alias": "ann"})[0] == 409  # still a user's name


def test_a_blocked_key_is_refused_until_it_is_unblocked(stage: Stage) -> None:
    key = call(stage, "/key/generate", {})[1]["key"]
    assert call(stage, "/key/block", {"key": key})[1]["blocked"] is True
    assert call(stage, "/model/info", headers={"Authorization": f"Bearer {key}"})[0] == 401
    assert call(stage, "/key/unblock", {"key": key})[1]["blocked"] is False
    assert call(stage, "/model/info", headers={"Authorization": f"Bearer {key}"})[0] == 200


def test_keys_are_deleted_by_key_token_and_alias_all_or_none(stage: Stage) -> None:
    made = [call(stage, "/key/generate", {"key_alias": alias})[1] for alias in ("a", "b", "c")]
    assert call(stage, "/key/delete", {"keys": [made[0]["key"], "sk-nobody"]})[0] == 404
    assert call(stage, "/key/delete", {"keys": [made[0]["key"], "sk-declared"]})[0] == 409
    assert len(stage.users.kept) == 6
    gone = {"keys": [made[0]["key"], made[1]["token"]], "key_aliases": ["c"]}
    assert call(stage, "/key/delete", gone) == (200, {"deleted_keys": [made[0]["key"], made[1]["token"], "c"]})
    assert len(stage.users.kept) == 3
    assert call(stage, "/key/delete", {})[0] == 400
    assert call(stage, "/key/delete", {"key_aliases": ["c"]})[0] == 404


def test_a_key_is_replaced(stage: Stage) -> None:
    old = call(stage, "/key/generate", {"key_alias": "test"})[1]["key"]
    status, told = call(stage, "/key/regenerate", {"key": old})
    assert (status, told["key_alias"], old in stage.users.kept, told["key"] in stage.users.kept) == (200, "test", False, True)


def test_keys_are_listed_in_pages(stage: Stage) -> None:
    for _ in range(3):
        call(stage, "/key/generate", {})
    _, told = call(stage, "/key/list?page=2&size=2")
    assert (len(told["keys"]), told["total_count"], told["current_page"], told["total_pages"]) == (2, 6, 2, 3)
    assert all(isinstance(token, str) for token in told["keys"])
    whole = call(stage, "/key/list?user_id=ann&return_full_object=true")[1]["keys"]
    assert [key["user_id"] for key in whole] == ["ann"]
    for query in ("page=0", "size=1000", "page=x", "size=%C2%B2"):
        assert call(stage, f"/key/list?{query}")[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer sk-nobody"}, 401), (ANN, 403), (ADMIN, 200), ({"X-API-Key": "sk-master"}, 200)],
)
def test_only_the_master_key_and_administrators_make_keys(stage: Stage, headers: dict[str, str], status: int) -> None:
    assert call(stage, "/key/generate", {}, headers)[0] == status
    assert call(stage, "/key/list", None, headers)[0] == status


def test_a_user_sees_its_own_key_alone(stage: Stage) -> None:
    assert call(stage, "/key/info", headers=ANN)[1]["info"]["user_id"] == "ann"
    assert call(stage, "/key/info?key=sk-ann", headers=ANN)[1]["info"]["user_id"] == "ann"
    assert call(stage, "/key/info?key=sk-admin", headers=ANN)[0] == 403
    assert call(stage, "/key/info?key=sk-nobody", headers=ANN)[0] == 403
    assert call(stage, "/key/list?key=sk-admin", headers=ADMIN)[0] == 400  # of all routes only /key/info takes a key there
    assert call(stage, "/key/info")[0] == 400
    assert call(stage, "/key/info?key=sk-nobody")[0] == 404


def test_without_a_master_key_there_are_no_such_calls() -> None:
    for path, body in (("/key/generate", {}), ("/key/info", None), ("/key/delete", {}), ("/key/list", None)):
        status, told = call(Stage(), path, body, ADMIN)
        assert (status, told["error"]["message"][:44]) == (501, "This gateway makes no keys in LiteLLM's way:")


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_master_key_file_that_is_missing_or_empty_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "master"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match="master_key_file: "):
        litellm.add_routes(web.Application(), Stage(master_key_file=str(file)).parts)


def test_models_are_those_that_the_key_may_use(stage: Stage) -> None:
    stage.users.add("sk-none", "none", models=())
    stage.users.add("sk-alias", "alias", models=("default",))
    for path in ("/model/info", "/v1/model/info"):
        (model,) = call(stage, path)[1]["data"]
        assert (model["model_name"], model["model_info"]["max_tokens"]) == ("qwen2.5:3b", 2048)
        assert "192.0.2.10" not in json.dumps(model)
        assert call(stage, path, headers={"X-API-Key": "sk-none"})[1]["data"] == []
        assert len(call(stage, path, headers={"X-API-Key": "sk-alias"})[1]["data"]) == 1


def test_health_is_told_without_a_key(stage: Stage) -> None:
    for path in ("/health/liveliness", "/health/liveness"):
        assert call(stage, path, headers={}) == (200, "I'm alive!")
    assert call(stage, "/health/readiness", headers={})[1]["status"] == "healthy"
    stage.dispatcher.drain()
    status, told = call(stage, "/health/readiness", headers={})
    assert (status, told["status"], told["detail"]) == (503, "unhealthy", "The gateway drains.")


def test_a_form_is_no_key(stage: Stage) -> None:
    async def go() -> tuple[int, Any]:
        async with served(stage.parts) as client, client.post("/key/generate", data={"key_alias": "test"}, headers=MASTER) as response:
            return response.status, await response.json()

    status, told = asyncio.run(go())
    assert (status, told["error"]["message"][:18]) == (422, "JSON decode error:")
