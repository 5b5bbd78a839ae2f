"""Two users of two models on a router that keeps one loaded."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.gateway.conftest import Llama
from tests.gateway.crowd import ask_all
from tests.gateway.process import back_end, running, told

REQUESTS = 60


def swaps(directory: Path, swap_bound_s: float) -> tuple[int, Counter[int]]:
    """How often the router changed its model, as both users ask for theirs again and again."""
    with back_end(2, "--token-ms", "1", "--models", "qwen,gemma", "--swap-ms", "50") as url:
        configuration = {
            "backends": {"one": {"url": url, "router": True, "models_max": 1}},
            "models": {name: {"targets": [{"backend": "one", "model": name}]} for name in ("qwen", "gemma")},
            "queue": {"swap_bound_s": swap_bound_s, "wait_s": 60},
            "health": {"every_s": 0.5},
        }
        with running(directory, configuration, {"ann": {}, "bob": {}}) as gateway:

            async def both() -> Counter[int]:
                said = await asyncio.gather(
                    ask_all(gateway.url, [("ann", 4)] * REQUESTS, at_once=3, model="qwen"),
                    ask_all(gateway.url, [("bob", 4)] * REQUESTS, at_once=3, model="gemma"),
                )
                return sum((each.all() for each in said), Counter())

            return (asyncio.run(both()), told(url)["swaps"])[::-1]  # type: ignore[return-value]


def test_two_models_in_turn_are_swapped_five_times_less_than_in_the_order_of_arrival(tmp_path: Path) -> None:
    first_come, answered = swaps(tmp_path / "first-come", 0.001)
    assert answered == Counter({200: 2 * REQUESTS})
    bounded, answered = swaps(tmp_path / "bounded", 1.0)
    assert answered == Counter({200: 2 * REQUESTS})
    assert 2 <= bounded * 5 <= first_come


def test_a_real_router_swaps_little_and_starves_nobody(llama: Llama, tmp_path: Path) -> None:
    """Each model has slots of its own: `tiny` four, `calling` two."""
    configuration = {
        "backends": {"router": {"url": llama.urls["router"], "router": True, "models_max": 1}},
        "models": {name: {"targets": [{"backend": "router", "model": name}]} for name in ("tiny", "calling")},
        "queue": {"swap_bound_s": 1.0, "wait_s": 120},
        "health": {"every_s": 0.2},
    }
    before = loads(llama)
    with running(tmp_path, configuration, {"ann": {}, "bob": {}}) as gateway:

        async def both() -> tuple[Counter[int], Counter[int]]:
            said = await asyncio.gather(
                ask_all(gateway.url, [("ann", 400)] * REQUESTS, at_once=6, model="tiny"),
                ask_all(gateway.url, [("bob", 400)] * REQUESTS, at_once=6, model="calling"),
            )
            return said[0].all(), said[1].all()

        assert asyncio.run(both()) == (Counter({200: REQUESTS}), Counter({200: REQUESTS}))
        loaded = loads(llama) - before
        print(f"{loaded} loads, {gateway.status()['backends']['router']['swaps']} swaps that the gateway counts")
    # they come in turn, so in the order of arrival each would load its model
    assert 2 <= loaded <= 2 * REQUESTS / 5


def loads(llama: Llama) -> int:
    """How many models the router has loaded so far, by its own log."""
    return int(llama.on("journalctl --no-pager | grep -c 'spawning server instance with name' || true"))
