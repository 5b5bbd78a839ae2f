"""What a model takes on the hosts that compute a part of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control.models.gguf import local_shape
from inventory.fleet import Fleet
from inventory.hardware import Hardware, NvidiaCard, PciDevice
from inventory.knowledge import Knowledge
from inventory.model_shape import ModelShape
from resources import Release
from roles.llama_server.demands import demands, judged, machine, refusals, unchecked
from roles.llama_server.fit import HOST
from tests.unit.sparse_model import llama_8b, write

RELEASE = Release("/r/1-0", "/r/current", "1", "0", "1", options=(), targets=(), packages=())


def fleet(workers: list[str], preset: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **worker: Any) -> Fleet:
    instance = {"model": "chat", "listen": "127.0.0.1:8081", "workers": workers, "preset": preset or {}}
    roles: dict[str, Any] = {"ai": {"llama_cpp": {}, "llama_server": {"instances": {"chat": instance}}}}
    for at, name in enumerate(("big", "spare")):
        roles[name] = {"llama_cpp": {}, "rpc_worker": {"listen": f"192.0.2.{11 + at}:50051", **worker}}
    if own:
        roles["big"]["llama_server"] = own
    hosts = {name: {"name": name, "address": f"192.0.2.{10 + at}", "roles": each} for at, (name, each) in enumerate(roles.items())}
    models = {"chat": {"preset": {"ctx-size": 8192, "cache-ram": 0}}}
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": models})


def box(memory_mib: int, cards: int = 0) -> Hardware:
    addresses = [f"0000:0{number}:00.0" for number in range(1, cards + 1)]
    return Hardware(
        "x86_64",
        "a processor",
        frozenset(),
        2,
        memory_mib,
        "debian 13",
        gpus=tuple(PciDevice(address, "10de", "1b87") for address in addresses),
        nvidia_cards=tuple(NvidiaCard(f"GPU-{address}", address, "P104-100", "6.1", 8118) for address in addresses),
    )


def known(memory_mib: dict[str, int], cards: dict[str, int] | None = None) -> Knowledge:
    cards = cards or {}
    hardware = {name: box(size, cards.get(name, 0)) for name, size in memory_mib.items()}
    return Knowledge(
        hardware=hardware, releases={name: replace(RELEASE, backend="cuda" if cards.get(name) else "cpu") for name in hardware}
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    path: Path = tmp_path_factory.mktemp("models") / "chat.gguf"
    return {"chat": local_shape(write(path, llama_8b()))}


SMALL = {"ai": 4000, "big": 4000, "spare": 4000}


def test_a_model_too_large_for_one_host_fits_on_several(shapes: dict[str, ModelShape]) -> None:
    (alone,) = refusals("ai", fleet([]), known(SMALL), shapes)
    assert "host memory has 3488 MiB and would need" in alone
    assert list(refusals("ai", fleet(["big", "spare"]), known(SMALL), shapes)) == []
    pools = {pool.name: pool for pool in judged("ai", fleet(["big", "spare"]), known(SMALL), shapes)}
    assert list(pools) == ["worker big", "worker spare", HOST]
    assert all(pools[name].rows and pools[name].fits for name in pools)


def test_what_does_not_fit_on_a_worker_is_refused_with_its_numbers_and_with_what_would(shapes: dict[str, ModelShape]) -> None:
    small = {**SMALL, "big": 3600}
    (said,) = refusals("ai", fleet(["big"]), known(small), shapes)
    assert "worker big has 2988 MiB and would need" in said
    assert "the nearest that fits is" in said and "n-gpu-layers" in said


def test_layers_that_stay_at_home_are_counted_there(shapes: dict[str, ModelShape]) -> None:
    pools = {pool.name: pool for pool in judged("ai", fleet(["big"], {"n-gpu-layers": 8}), known(SMALL), shapes)}
    assert pools[HOST].used > 2 * pools["worker big"].used > 0


def test_a_limit_of_memory_is_the_room_and_no_more_is_split_for_it(shapes: dict[str, ModelShape]) -> None:
    of = fleet(["big", "spare"], memory_max="2G")
    found = machine("ai", of, known(SMALL))
    assert found and dict(found.cards) == {"worker big": 1948, "worker spare": 1948}
    assert found.share("worker big") == 4000
    assert [line for line in refusals("ai", of, known(SMALL), shapes) if "worker big has 1948 MiB" in line]


def test_a_worker_with_cards_offers_each_of_them_before_the_servers_own(shapes: dict[str, ModelShape]) -> None:
    of, knowledge = fleet(["big"]), known(SMALL, {"big": 2, "ai": 1})
    (demand,) = demands("ai", of, knowledge, shapes)
    names = [name.partition(" (")[0] for name in demand.cards]
    assert names == ["worker big, card 0", "worker big, card 1", "card 0"]
    found = machine("ai", of, knowledge)
    assert found and set(found.cards.values()) == {8118}
    assert found.context(demand.cards[0]).total > 0


def test_a_worker_that_nobody_has_looked_at_is_not_checked(shapes: dict[str, ModelShape]) -> None:
    of = fleet(["big"])
    of = of.model_copy(update={"models": {"chat": of.models["chat"].model_copy(update={"source": {}})}})
    found = list(unchecked("ai", of, known({"ai": 4000}), shapes))
    assert any("worker big: memory unknown" in line and "paddock plan" in line for line in found)


def test_what_a_host_computes_for_others_is_not_its_own_servers(shapes: dict[str, ModelShape]) -> None:
    of = fleet(["big"], memory_max="1G", own={"models": ["chat"]})
    alone, shared = machine("ai", of, known(SMALL)), machine("big", of, known(SMALL))
    assert alone and shared and alone.memory_mib - shared.memory_mib == 1024
