"""The administrator's API, readiness, and who may read the metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from paddock_gateway.apis.admin import admin_application, metrics_application
from paddock_gateway.contract import Figures
from paddock_gateway.metrics import Metrics
from tests.unit.gateway.apis.stubs import ADMIN, ANN, Stage, configuration, served


def call(stage: Stage, method: str, path: str, *, application: web.Application | None = None, **more: Any) -> tuple[int, str]:
    async def go() -> tuple[int, str]:
        async with served(stage.parts, application) as client, client.request(method, path, **more) as response:
            return response.status, await response.text()

    return asyncio.run(go())


def test_draining_makes_it_unready_and_resuming_ready_again() -> None:
    async def go() -> None:
        stage = Stage()
        async with served(stage.parts) as client:
            assert (await client.get("/readyz")).status == 200
            drained = await (await client.post("/admin/drain", headers=ADMIN)).json()
            assert (drained["draining"], drained["ready"], drained["idle"]) == (True, False, True)
            response = await client.get("/readyz")
            assert (response.status, await response.text()) == (503, "The gateway drains.\n")
            assert (await client.get("/livez")).status == 200
            resumed = await (await client.post("/admin/resume", headers=ADMIN)).json()
            assert (resumed["draining"], resumed["ready"]) == (False, True)
            assert (await client.get("/readyz")).status == 200

    asyncio.run(go())


def test_a_drain_may_wait_until_nothing_runs() -> None:
    async def go() -> None:
        stage = Stage()
        stage.dispatcher.said = Figures(waiting=0, running=1, slots_by_backend={"one": 4})
        async with served(stage.parts) as client:
            told = await (await client.post("/admin/drain", json={"wait_s": 0.001}, headers=ADMIN)).json()
            assert told["idle"] is False
            draining = asyncio.ensure_future(client.post("/admin/drain", json={"wait_s": 60}, headers=ADMIN))
            await asyncio.sleep(0)
            stage.dispatcher.said = Figures(waiting=0, running=0)
            stage.dispatcher.gone_idle.set()
            assert (await (await draining).json())["idle"] is True

    asyncio.run(go())


@pytest.mark.parametrize(("method", "path"), [("POST", "/admin/drain"), ("POST", "/admin/resume"), ("GET", "/admin/status")])
def test_only_administrators_administrate(method: str, path: str) -> None:
    for headers, status in (({}, 401), (ANN, 403), (ADMIN, 200)):
        stage = Stage()
        assert call(stage, method, path, headers=headers)[0] == status
        assert stage.dispatcher.draining is (status == 200 and path == "/admin/drain")


def test_a_drain_with_a_wrong_body_drains_nothing() -> None:
    stage = Stage()
    assert call(stage, "POST", "/admin/drain", headers=ADMIN, data="wait")[0] == 422
    assert not stage.dispatcher.draining


def test_over_the_unix_socket_no_key_is_needed(tmp_path: Path) -> None:
    async def go() -> None:
        stage = Stage()
        runner = web.AppRunner(admin_application(stage.parts))
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "admin.sock")).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "admin.sock"))) as session:
            async with session.post("http://gateway/admin/drain") as response:
                assert response.status == 200
            async with session.get("http://gateway/admin/status") as response:
                assert (await response.json())["backends"] == {"one": {"up": True, "slots": 4, "running": 0, "swaps": 0}}
        await runner.cleanup()
        assert stage.dispatcher.draining

    asyncio.run(go())


def test_without_a_back_end_it_is_not_ready() -> None:
    stage = Stage()
    stage.dispatcher.said = Figures(waiting=0, running=0, slots_by_backend={"one": 0})
    assert call(stage, "GET", "/readyz") == (503, "No back end is up.\n")


def test_metrics_are_for_this_host_for_administrators_and_for_whoever_reaches_their_own_address() -> None:
    stage = Stage(observer=Metrics(configuration()))
    passed_on = {"X-Forwarded-For": "127.0.0.1"}
    assert call(stage, "GET", "/metrics")[0] == 200
    assert call(stage, "GET", "/metrics", headers=passed_on)[0] == 401
    assert call(stage, "GET", "/metrics", headers=passed_on | ANN)[0] == 403
    assert call(stage, "GET", "/metrics", headers=passed_on | ADMIN)[0] == 200
    assert call(stage, "GET", "/metrics", headers=passed_on, application=metrics_application(stage.parts))[0] == 200
    assert call(stage, "GET", "/admin/status", headers=ADMIN, application=metrics_application(stage.parts))[0] == 404
