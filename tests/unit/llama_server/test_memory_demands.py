"""What the servers of an inventory ask of their host: which models, with which options, on which cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.gguf import local_shape
from inventory.context import Context
from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice
from inventory.load import load
from inventory.model_shape import ModelShape
from inventory.schema import Fleet
from roles.llama_server.demands import demands, judged, machine, refusals
from roles.llama_server.fit import fit, nearest
from roles.resources import Release
from tests.unit.sparse_model import llama_8b, nomic_embed_text, write

ROOT = Path(__file__).parents[3]

RELEASE = Release(
    path="/opt/paddock/llama.cpp/releases/1-0",
    current="/opt/paddock/llama.cpp/current",
    version="1",
    fingerprint="0",
    key="0",
    source="1",
    profile="",
    backend="cuda",
    options=(),
    targets=(),
    packages=(),
)


def fleet(**llama_server: object) -> Fleet:
    return Fleet.model_validate(
        {
            "name": "rigs",
            "domain": "home.example",
            "hosts": {
                "rig": {
                    "name": "rig",
                    "address": "192.0.2.10",
                    "roles": {"gpu": {"nvidia": {"driver": "installed"}, "count_from": 1}, "llama_cpp": {}, "llama_server": llama_server},
                }
            },
            "models": {"chat": {"preset": {"ctx-size": 8192}}, "embed": {"preset": {"embeddings": True}}},
        }
    )


def hardware(cards: int) -> Hardware:
    addresses = [f"0000:0{number}:00.0" for number in range(1, cards + 1)]
    return Hardware(
        "x86_64",
        "a processor",
        frozenset(),
        2,
        32000,
        "debian 13",
        gpus=tuple(PciDevice(address, "10de", "1b87") for address in addresses),
        nvidia_cards=tuple(NvidiaCard(f"GPU-{address}", address, "P104-100", "6.1", 8118) for address in reversed(addresses)),
    )


def context(cards: int = 3, backend: str = "cuda") -> Context:
    return Context(hardware={"rig": hardware(cards)}, releases={"rig": replace(RELEASE, backend=backend)})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    directory: Path = tmp_path_factory.mktemp("models")
    models = {"chat": llama_8b(), "embed": nomic_embed_text()}
    return {name: local_shape(write(directory / f"{name}.gguf", model)) for name, model in models.items()}


INSTANCES = {
    "chat": {"model": "chat", "listen": "192.0.2.10:8081", "gpus": [1, 3], "preset": {"ctx-size": 16384}},
    "embed": {"model": "embed", "listen": "192.0.2.10:8091", "gpus": [2]},
}


def test_each_instance_asks_for_its_own_card(shapes: dict[str, ModelShape]) -> None:
    this = fleet(instances=INSTANCES)
    found = {each.server: each.cards for each in demands("rig", this, context(), shapes)}
    assert found == {"chat-1": ("card 1 (P104-100)",), "chat-2": ("card 3 (P104-100)",), "embed": ("card 2 (P104-100)",)}


def test_an_instances_options_go_before_its_models(shapes: dict[str, ModelShape]) -> None:
    chat, *_ = demands("rig", fleet(instances=INSTANCES), context(), shapes)
    assert (chat.loads[0].preset["ctx-size"], chat.loads[0].where) == (16384, "hosts.rig.roles.llama_server.instances.chat.preset")


def test_a_router_uses_all_cards_and_its_models_options_go_before_its_own(shapes: dict[str, ModelShape]) -> None:
    (router,) = demands("rig", fleet(models=["chat", "embed"], models_max=1, preset={"ctx-size": 512, "threads": 2}), context(), shapes)
    assert (len(router.cards), router.at_once, router.where) == (3, 1, "hosts.rig.roles.llama_server")
    assert [load.preset["ctx-size"] for load in router.loads] == [8192, 512]
    assert [load.where for load in router.loads] == ["models.chat.preset", "models.embed.preset"]


def test_prompts_have_what_the_plan_gives_them_shared_out_among_models_at_a_time(shapes: dict[str, ModelShape]) -> None:
    """An eighth of the memory, in whole GiB of it: so fewer models at a time do not change the sum."""
    sums = []
    for count in (1, 2):
        (router,) = demands("rig", fleet(models=["chat", "embed"], models_max=count), context(), shapes)
        sums.append(router.prompts_mib(router.loads[0]) * count)
    assert sums == [4096, 4096]
    (router,) = demands("rig", fleet(models=["chat"], preset={"cache-ram": 100}), context(), shapes)
    assert router.prompts_mib(router.loads[0]) == 100


def test_the_cards_room_is_what_the_driver_says_and_the_system_keeps_some_memory(shapes: dict[str, ModelShape]) -> None:
    found = machine("rig", fleet(instances=INSTANCES), context(2))
    assert found
    assert dict(found.cards) == {"card 1 (P104-100)": 8118, "card 2 (P104-100)": 8118}
    assert found.memory_mib == 30000


def test_a_gpu_in_the_processor_takes_of_the_hosts_memory(shapes: dict[str, ModelShape]) -> None:
    here = context(1, "vulkan")
    integrated = replace(here.hardware["rig"], vulkan=(VulkanDevice("Radeon", "radv", "integrated", "1.4"),))
    here = replace(here, hardware={"rig": integrated})
    this = fleet(models=["chat"])
    found = machine("rig", this, here)
    assert found
    assert not found.cards
    assert [place.name for place in fit(found, tuple(demands("rig", this, here, shapes)))] == ["host memory"]


def test_a_host_that_nobody_has_looked_at_has_no_room_to_judge() -> None:
    assert machine("rig", fleet(models=["chat"]), Context()) is None


def test_a_model_of_unknown_shape_is_left_out(shapes: dict[str, ModelShape]) -> None:
    (router,) = demands("rig", fleet(models=["chat", "embed"]), context(), {"embed": shapes["embed"]})
    assert [load.model for load in router.loads] == ["embed"]


def test_the_advice_for_an_inventory_is_a_place_in_it(shapes: dict[str, ModelShape]) -> None:
    asked = {**INSTANCES, "chat": {**INSTANCES["chat"], "preset": {"ctx-size": 65536}}}
    this = fleet(instances=asked)
    found = machine("rig", this, context())
    assert found
    changes = nearest(found, tuple(demands("rig", this, context(), shapes)))
    assert changes
    assert [change.where for change in changes] == ["hosts.rig.roles.llama_server.instances.chat.preset"]


def test_a_limit_that_is_too_small_for_a_server_is_told(shapes: dict[str, ModelShape]) -> None:
    this = fleet(instances={"chat": {**INSTANCES["chat"], "memory_max": "400M"}})
    short = [place for place in judged("rig", this, context(), shapes) if not place.fits]
    assert [(place.name, place.room_mib) for place in short] == [("memory_max of chat-1", 400), ("memory_max of chat-2", 400)]


def test_the_inventory_of_the_mining_rig_fits_its_machine(shapes: dict[str, ModelShape]) -> None:
    this = load(ROOT / "inventory" / "local-ai.yml")
    here = Context(hardware={"pea": hardware(8)}, releases={"pea": RELEASE})
    found = machine("pea", this, here)
    assert found
    asked = tuple(demands("pea", this, here, {**shapes, "story": shapes["chat"]}))
    assert sum(each.model == "embed" for demand in asked for each in demand.loads) == 7
    assert sum(each.model in ("chat", "story") for demand in asked for each in demand.loads) == 7
    assert [place.name for place in fit(found, asked) if not place.fits] == []


def test_a_refusal_names_host_card_and_the_way_out(shapes: dict[str, ModelShape]) -> None:
    asked = {**INSTANCES, "chat": {**INSTANCES["chat"], "preset": {"ctx-size": 65536}}}
    lines = list(refusals("rig", fleet(instances=asked), context(), shapes))
    way_out = "hosts.rig.roles.llama_server.instances.chat.preset: {ctx-size: 36864, cache-type-k: q8_0, cache-type-v: q8_0}"
    assert lines == [
        f"hosts.rig: card {number} (P104-100) has 8118 MiB and would need 13744 for chat ({server}); the nearest that fits is {way_out}"
        for number, server in ((1, "chat-1"), (3, "chat-2"))
    ]


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ({"ctx-size": 131072}, False),
        ({"ctx-size": 262144}, True),
        ({"ctx-size": 262144, "parallel": 2}, False),
        ({"ctx-size": 262144, "rope-scaling": "yarn", "rope-scale": 2}, False),
    ],
)
def test_a_context_beyond_the_models_training_is_refused(shapes: dict[str, ModelShape], preset: dict[str, object], told: bool) -> None:
    this = fleet(instances={"chat": {"model": "chat", "listen": "192.0.2.10:8080", "preset": preset}})
    lines = list(refusals("rig", this, Context(), shapes))
    where = "hosts.rig.roles.llama_server.instances.chat.preset"
    slot = f"{where}: ctx-size gives chat 262144 tokens, and it was trained for 131072: give it at most those"
    assert lines == ([slot] if told else [])
