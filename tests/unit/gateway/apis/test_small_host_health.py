"""The small host's `/health` and the warm-up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock_gateway.contract import Figures
from paddock_gateway.errors import Failure
from tests.unit.gateway.apis.stubs import Client, Stage, served, until


async def _health(client: Client) -> dict[str, Any]:
    async with client.get("/health") as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


def test_health_says_when_the_model_is_nowhere_up() -> None:
    async def go() -> None:
        stage = Stage()
        async with served(stage.parts) as client:
            assert await _health(client) == {
                "status": "healthy",
                "model_loaded": True,
                "model_path": "qwen2.5:3b",
                "queue_size": 0,
                "active_requests": 0,
                "max_concurrent": 4,
            }
            stage.dispatcher.said = Figures(waiting=2, running=1, slots_by_backend={"one": 0})
            told = await _health(client)
            assert (told["status"], told["model_loaded"], told["queue_size"], told["active_requests"]) == ("unhealthy", False, 2, 1)

    asyncio.run(go())


def test_the_gateway_is_ready_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.apis.pi.AGAIN_S", 0.001)

    async def go() -> None:
        stage = Stage(pi={"model": "default", "warm_up": True})
        gate = asyncio.Event()
        stage.upstream.tokens = (Failure(503, "No back end is left."),)
        async with served(stage.parts) as client:
            await until(lambda: len(stage.upstream.asked) > 1)
            assert (await client.get("/readyz")).status == 503
            assert (await _health(client))["status"] == "starting"
            stage.upstream.tokens = (gate,)
            gate.set()
            await until(lambda: not stage.parts.readiness.awaits)
            assert (await client.get("/readyz")).status == 200
            assert (stage.upstream.logged[-1], stage.upstream.asked[-1]["max_tokens"]) == ("warm-up", 1)

    asyncio.run(go())


def test_the_warm_up_awaits_a_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.apis.pi.LOOK_S", 0.001)

    async def go() -> None:
        stage = Stage(pi={"model": "default", "warm_up": True})
        stage.dispatcher.said = Figures(waiting=0, running=0)
        async with served(stage.parts) as client:
            assert (await client.get("/readyz")).status == 503
            assert stage.upstream.asked == []
            stage.dispatcher.said = Figures(waiting=0, running=0, slots_by_backend={"one": 1})
            await until(lambda: not stage.parts.readiness.awaits)
            assert len(stage.upstream.asked) == 1

    asyncio.run(go())
