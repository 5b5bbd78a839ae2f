"""What the servers of an inventory ask of their host: which models, with which options, on which cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.models.gguf import local_shape
from inventory.fleet import Fleet
from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice
from inventory.knowledge import Knowledge
from inventory.load import load
from inventory.model_shape import ModelShape
from inventory.options import Options, TensorType
from resources import Release
from roles.llama_server.demands import demands, judged, machine, refusals, remarks, unchecked
from roles.llama_server.fit import Load, fit, nearest
from roles.llama_server.loading import remarks_on
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


def context(cards: int = 3, backend: str = "cuda") -> Knowledge:
    return Knowledge(hardware={"rig": hardware(cards)}, releases={"rig": replace(RELEASE, backend=backend)})


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


@pytest.mark.parametrize(
    "card", [NvidiaCard("", "", "NVIDIA Orin", "8.7", 0), NvidiaCard("GPU-1", "000f:01:00.0", "NVIDIA GB10", "12.1", 0)]
)
def test_a_gpu_that_shares_the_machines_memory_is_judged_by_that(shapes: dict[str, ModelShape], card: NvidiaCard) -> None:
    """Facts as recorded/jetson-agx-orin.txt and recorded/dgx-spark.txt have them, which are put together from public documentation."""
    here, this = context(1), fleet(models=["chat"])
    shared = replace(here.hardware["rig"], architecture="aarch64", nvidia_cards=(card,), gpus=())
    here = replace(here, hardware={"rig": shared})
    (place,) = judged("rig", this, here, shapes)
    assert (place.name, place.room_mib, place.fits) == ("host memory", 30000, True)
    small = replace(here, hardware={"rig": replace(shared, memory_mib=4000)})
    assert any("host memory has 3488 MiB and would need" in line for line in refusals("rig", this, small, shapes))
    assert not any("no driver says how much it has" in line for line in unchecked("rig", this, here, shapes))


def test_a_host_that_nobody_has_looked_at_has_no_room_to_judge() -> None:
    assert machine("rig", fleet(models=["chat"]), Knowledge()) is None


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
    here = Knowledge(hardware={"pea": hardware(8)}, releases={"pea": RELEASE})
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


def alone(**preset: object) -> Fleet:
    return fleet(instances={"chat": {"model": "chat", "listen": "192.0.2.10:8080", "preset": preset}})


WHERE = "hosts.rig.roles.llama_server.instances.chat.preset"


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ({"ctx-size": 131072}, []),
        (
            {"ctx-size": 262144},
            ["ctx-size gives chat 262144 tokens, which its 4 slots share: each slot gets the 131072 that it was trained for"],
        ),
        ({"ctx-size": 262144, "parallel": 2}, []),
        ({"ctx-size": 262144, "override-kv": "llama.context_length=int:262144"}, []),
    ],
)
def test_a_context_beyond_the_models_training_is_told_and_not_refused(
    shapes: dict[str, ModelShape], preset: dict[str, object], told: list[str]
) -> None:
    this = alone(**preset)
    assert list(refusals("rig", this, Knowledge(), shapes)) == []
    assert list(remarks("rig", this, Knowledge(), shapes)) == [f"{WHERE}: {words}" for words in told]


def test_of_a_pool_that_is_sized_by_the_slot_the_slot_is_told(shapes: dict[str, ModelShape]) -> None:
    assert list(remarks_on(Load("chat", shapes["chat"], {"kv-unified-per-slot": 131072}, "here"))) == []
    (said,) = remarks_on(Load("chat", shapes["chat"], {"kv-unified-per-slot": 262144, "parallel": 2}, "here"))
    each = "kv-unified-per-slot gives chat 262144 tokens a slot: each slot gets the 131072 that it was trained for"
    assert said == f"here: {each}, and the memory of the rest is taken for nothing: 131072 is enough"


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        (
            {"ctk": "q4_0"},
            "cache-type-k: its KV cache cannot be q4_0: a head of the model is no multiple of its blocks of 32 numbers: use f16",
        ),
        (
            {"ctv": "q4_0", "fa": "off"},
            "cache-type-v: q4_0: a quantized cache of values needs flash attention: leave `flash-attn` on, or use f16",
        ),
        (
            {"ctk": "f16", "ctv": "f32"},
            "cache-type-k is f16 and cache-type-v is f32: this model's keys and values share one cache: give both",
        ),
        ({"parallel": 0}, "parallel: llama-server has no 0 slots"),
    ],
)
def test_what_llama_cpp_would_not_start_is_refused_with_its_place(
    shapes: dict[str, ModelShape], preset: dict[str, object], words: str
) -> None:
    odd = replace(shapes["chat"], key_length=80, value_length=64, key_length_mla=80, value_length_mla=64)
    lines = list(refusals("rig", alone(**preset), context(), {"chat": odd}))
    assert any(line.startswith(f"{WHERE}: chat: {words}") for line in lines)
    assert judged("rig", alone(**preset), context(), {"chat": odd})


def test_a_cache_that_llama_cpp_takes_is_not_refused(shapes: dict[str, ModelShape]) -> None:
    for preset in ({"ctk": "q8_0", "ctv": "q4_0"}, {"ctk": "q8_0", "fa": "off"}, {"kv-unified-per-slot": 1024, "np": 256}):
        assert list(refusals("rig", alone(**preset), Knowledge(), shapes)) == []
    odd = replace(shapes["chat"], key_length=80, value_length=64)
    assert list(refusals("rig", alone(ctv="q8_0"), Knowledge(), {"chat": odd})) == []


TYPES = Options(
    "path x",
    "b9999",
    (),
    tensor_types=(
        TensorType(0, "F32"),
        TensorType(4, "Q4_2", removed=True),
        TensorType(14, "Q6_K"),
        TensorType(31, "Q4_0_4_8", removed=True),
    ),
)


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (14, "Q6_K", ""),
        (31, "", "31 (Q4_0_4_8), which was removed from llama.cpp: use Q4_0, which llama.cpp repacks itself"),
        (4, "", "4 (Q4_2), which was removed from llama.cpp: use another quantization"),
        (39, "MXFP4", "39 (MXFP4), which it does not know: use another quantization, or a llama.cpp that has this type"),
        (139, "", "139, which it does not know: use another quantization, or a llama.cpp that has this type"),
        (30, "BF16", "30 (BF16), which it does not know"),
    ],
)
def test_a_type_of_tensor_that_the_hosts_llama_cpp_does_not_load_is_refused_by_name(
    shapes: dict[str, ModelShape], number: int, name: str, words: str
) -> None:
    types = ((0, "F32", "output_norm.weight", "chat.gguf"), (number, name, "blk.0.attn_q.weight", "chat.gguf"))
    shape = replace(shapes["chat"], tensor_types=types)
    here = replace(context(), options={"rig": TYPES})
    lines = list(refusals("rig", fleet(instances=INSTANCES), here, {"chat": shape}))
    said = "hosts.rig: models.chat: llama.cpp b9999 cannot load chat.gguf: its tensor blk.0.attn_q.weight is of type "
    assert [line.startswith(f"{said}{words}") for line in lines] == ([True] if words else [])
    for unknown in (context(), replace(context(), options={"rig": replace(TYPES, tensor_types=())})):
        assert list(refusals("rig", fleet(instances=INSTANCES), unknown, {"chat": shape})) == []


def test_types_that_nobody_has_noted_are_said_not_to_be_checked(shapes: dict[str, ModelShape]) -> None:
    here = replace(context(), options={"rig": TYPES})
    (line,) = remarks("rig", real(models=["chat"]), here, {"chat": replace(shapes["chat"], tensor_types=())})
    assert line == "hosts.rig: models.chat: types of tensors unknown: not checked: `paddock models pull --lock chat` notes them"


def real(**llama_server: object) -> Fleet:
    """With models of which somebody else has the files: the tiny one is nobody's worry."""
    this = fleet(**llama_server)
    source = {"path": "/srv/model.gguf", "sha256": "1" * 64}
    models = {name: {"source": source, "preset": entry.preset} for name, entry in this.models.items()}
    return Fleet.model_validate({**this.model_dump(mode="json", exclude={"models"}), "models": models})


def test_memory_that_nobody_knows_is_said_to_be_unknown_with_what_to_do(shapes: dict[str, ModelShape]) -> None:
    this, here = real(models=["chat", "embed"]), context(1)
    assert list(unchecked("rig", this, here, shapes)) == []
    unseen, unread = unchecked("rig", this, Knowledge(), {"chat": shapes["chat"]})
    assert unseen == "hosts.rig: memory unknown: not checked: nobody has looked at its hardware yet: `paddock plan` does"
    assert unread == "hosts.rig: models.embed: memory unknown: not checked: nobody has read its header yet: `paddock models fit` does"
    (why,) = unchecked("rig", this, here, {"chat": shapes["chat"]}, {"embed": "models.embed: it lies on the host"})
    assert why == "hosts.rig: models.embed: memory unknown: not checked: it lies on the host"


def test_a_card_and_a_host_that_say_nothing_of_their_memory_are_named(shapes: dict[str, ModelShape]) -> None:
    mute = replace(context(1).hardware["rig"], memory_mib=0, nvidia_cards=(), vulkan=(VulkanDevice("Arc", "anv", "discrete", "1.4"),))
    here = Knowledge(hardware={"rig": mute}, releases={"rig": replace(RELEASE, backend="vulkan")})
    host, card = unchecked("rig", real(models=["chat"]), here, shapes)
    assert host.startswith("hosts.rig: host memory: memory unknown: not checked: ")
    assert card.startswith("hosts.rig: card 1 (0000:01:00.0): memory unknown: not checked: ")


def test_a_host_that_is_too_small_for_any_server_is_not_one_of_unknown_memory(shapes: dict[str, ModelShape]) -> None:
    small = Knowledge(hardware={"rig": replace(hardware(0), memory_mib=480)}, releases={"rig": replace(RELEASE, backend="cpu")})
    assert list(unchecked("rig", real(models=["embed"]), small, shapes)) == []
    assert any("host memory has 1 MiB" in line for line in refusals("rig", real(models=["embed"]), small, shapes))


def test_a_card_of_which_amds_driver_says_the_memory_has_that_room_unless_a_gpu_in_the_processor_may_be_meant() -> None:
    amd = replace(context(1).hardware["rig"], nvidia_cards=(), gpus=(PciDevice("0000:03:00.0", "1002", "744c", "", 24560),))
    discrete, integrated = (VulkanDevice("Radeon", "radv", kind, "1.4") for kind in ("discrete", "integrated"))
    rooms = []
    for vulkan in ((discrete,), (discrete, integrated)):
        here = Knowledge(hardware={"rig": replace(amd, vulkan=vulkan)}, releases={"rig": replace(RELEASE, backend="vulkan")})
        found = machine("rig", fleet(models=["chat"]), here)
        assert found
        rooms.append(list(found.cards.values()))
    assert rooms == [[24560], [0]]


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"mmproj": "/srv/eyes.gguf"}, "mmproj: memory unknown: not checked: what chat takes for this is not counted"),
        ({"spec-type": "draft-mtp"}, "spec-type: memory unknown: not checked: what chat takes for this is not counted"),
        ({"cache-ram": -1}, "cache-ram: memory unknown: not checked: chat's cache of prompts has no limit"),
        ({"spec-type": "none", "cache-ram": 0}, ""),
    ],
)
def test_what_is_not_counted_is_said(shapes: dict[str, ModelShape], preset: dict[str, object], words: str) -> None:
    lines = list(remarks("rig", alone(**preset), context(), shapes))
    assert [line.startswith(f"{WHERE}: {words}") for line in lines] == ([True] if words else [])


def test_what_is_computed_for_an_unusual_architecture_is_said_to_be_a_guess(shapes: dict[str, ModelShape]) -> None:
    (line,) = remarks("rig", alone(), context(), {"chat": replace(shapes["chat"], architecture="deepseek4")})
    assert line.endswith("deepseek4 has a KV cache of its own kind: what is computed for it is a guess")
