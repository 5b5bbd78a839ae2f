"""Which devices a model lies on where its options name them: held against what the same model takes without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.models.gguf import local_shape
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import PciDevice, VulkanDevice
from inventory.model_shape import ModelShape
from roles.llama_server.demands import demands, judged, machine, refusals, remarks
from roles.llama_server.fit import HOST, Demand, Load, ServingMemory, fit
from roles.llama_server.loading import faults
from roles.llama_server.memory import MIB
from roles.llama_server.memory_options import Value
from tests.unit.llama_server.test_memory_demands import context, fleet
from tests.unit.sparse_model import llama_8b, qwen3_30b_a3b, write

CARDS = ("card 0", "card 1")
EYES = ModelShape("clip", 800 * MIB, context_length=576, embedding_length=1024, feed_forward_length=4096, head_count=16)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    directory: Path = tmp_path_factory.mktemp("models")
    models = {"chat": llama_8b(), "experts": qwen3_30b_a3b()}
    return {name: local_shape(write(directory / f"{name}.gguf", model)) for name, model in models.items()}


def used(shape: ModelShape, *beside: tuple[str, ModelShape], rooms: tuple[int, ...] = (24000, 24000), **preset: Value) -> list[int]:
    """MiB on each card, and in host memory."""
    options: dict[str, Value] = {"ctx-size": 8192, "cache-ram": 0} | {name.replace("_", "-"): value for name, value in preset.items()}
    here = ServingMemory(64000, dict(zip(CARDS, rooms, strict=False)), "cuda")
    load = Load("m", shape, options, "models.m.preset", beside=beside)
    return [place.used // MIB for place in fit(here, [Demand("llama-server", (load,), tuple(here.cards))])]


@pytest.mark.parametrize(
    ("preset", "cards"),
    [
        ({}, (True, True)),
        ({"device": "CUDA0"}, (True, False)),
        ({"dev": "cuda1"}, (False, True)),
        ({"device": "none"}, (False, False)),
        ({"split-mode": "none"}, (True, False)),
        ({"sm": "none", "mg": 1}, (False, True)),
        ({"split-mode": "none", "main-gpu": -1}, (False, False)),
        ({"tensor-split": "0,1"}, (False, True)),
        ({"ts": "1"}, (True, False)),
        ({"device": "CUDA1,CUDA0", "split-mode": "none"}, (False, True)),
        ({"device": "CUDA1,CUDA0", "tensor-split": "0,1"}, (True, False)),
        ({"tensor-split": "0,0"}, (True, True)),
    ],
)
def test_a_model_is_on_the_devices_that_its_options_name(
    shapes: dict[str, ModelShape], preset: dict[str, Value], cards: tuple[bool, bool]
) -> None:
    *found, host = used(shapes["chat"], **preset)
    assert tuple(each > 0 for each in found) == cards
    assert (host > 5000) == (not any(cards))


def test_it_is_split_as_the_options_say_and_the_output_is_on_the_last(shapes: dict[str, ModelShape]) -> None:
    even, uneven, swapped = (used(shapes["chat"], **preset) for preset in ({}, {"tensor-split": "3,1"}, {"device": "CUDA1,CUDA0"}))
    assert even[1] > even[0] and swapped[:2] == even[1::-1]
    assert uneven[0] > 2 * uneven[1] and abs(sum(uneven) - sum(even)) < 5


def test_a_draft_and_a_projector_are_on_devices_of_their_own(shapes: dict[str, ModelShape]) -> None:
    chat = shapes["chat"]
    alone = used(chat, device="CUDA0")
    for key, each in (("draft", chat), ("mmproj", EYES)):
        option = {"draft": "spec-draft-device", "mmproj": "mmproj-device"}[key]
        beside = used(chat, (key, each), device="CUDA0", **{option: "CUDA1"})
        assert beside[0] == alone[0] and beside[1] > 0
        assert used(chat, (key, each), device="CUDA1")[0] == 0  # where nothing is said of it, it is with its model
        assert used(chat, (key, each), device="CUDA0", **{option: "none"})[:2] == alone[:2]
    assert used(chat, ("lora", EYES), device="CUDA1")[0] == 0


def test_a_draft_on_one_device_is_split_by_layers_whatever_its_model_is(shapes: dict[str, ModelShape]) -> None:
    chat = shapes["chat"]
    found = used(chat, ("draft", chat), **{"split-mode": "none", "main-gpu": 1, "spec-draft-device": "CUDA0"})
    assert found[0] > 5000 and found[1] > 5000


EXPERTS = r"\.ffn_(up|down|gate)_exps\.=CPU"


def test_experts_that_are_kept_in_host_memory_by_name_count_there(shapes: dict[str, ModelShape]) -> None:
    model = shapes["experts"]
    by_option = used(model, **{"cpu-moe": True})
    assert used(model, **{"override-tensor": EXPERTS}) == pytest.approx(by_option, abs=2)
    some = used(model, ot=r"blk\.([0-9]|1[0-9])\.ffn_.*_exps\.=CPU")
    assert some == pytest.approx(used(model, **{"n-cpu-moe": 20}), abs=2)
    one_of_three = used(model, ot=r"ffn_up_exps=CPU")
    assert by_option[2] > one_of_three[2] > used(model)[2] + 3000


def test_tensors_may_lie_on_another_card_and_the_first_pattern_counts(shapes: dict[str, ModelShape]) -> None:
    model = shapes["experts"]
    moved = used(model, device="CUDA0", ot="exps=CUDA1")
    assert moved[1] > 15000 and moved[0] < 5000
    assert used(model, device="CUDA0", ot="exps=CUDA1,exps=CPU") == moved
    assert used(model, device="CUDA0", ot="exps=CUDA7") == used(model, device="CUDA0")


def test_of_a_model_without_experts_what_moves_is_shared_out_by_its_weights(shapes: dict[str, ModelShape]) -> None:
    whole, feed_forward, attention = (used(shapes["chat"], ot=f"{name}=CPU")[2] for name in ("blk", "ffn", "attn"))
    assert feed_forward > 3 * attention and whole > feed_forward


@pytest.mark.parametrize("preset", [{"tensor-split": "a,b"}, {"override-tensor": "(=CPU"}])
def test_what_llama_server_would_not_take_is_told_at_its_place(shapes: dict[str, ModelShape], preset: dict[str, Value]) -> None:
    (said,) = faults(Load("chat", shapes["chat"], preset, "models.chat.preset"))
    assert said.startswith(f"models.chat.preset: chat: {next(iter(preset))}: ")


def one(**instance: object) -> Fleet:
    return fleet(instances={"chat": {"model": "chat", "listen": "127.0.0.1:8081", **instance}})


@pytest.mark.parametrize(("environment", "fits"), [({}, False), ({"GGML_CUDA_ENABLE_UNIFIED_MEMORY": 1}, True)])
def test_what_a_card_has_no_room_for_is_in_host_memory_where_cuda_may_take_it_there(
    shapes: dict[str, ModelShape], environment: dict[str, int], fits: bool
) -> None:
    this, here = one(gpus=[1], preset={"ctx-size": 32768}, environment=environment), context(1)
    card, host = judged("rig", this, here, shapes)
    assert card.fits == fits == (not list(refusals("rig", this, here, shapes)))
    assert card.left_mib == (0 if fits else card.left_mib) and host.fits
    assert (host.used > sum(row.memory.total for row in host.rows)) == fits


def test_cuda_counts_cards_in_the_order_in_which_a_server_names_them(shapes: dict[str, ModelShape]) -> None:
    (demand,) = demands("rig", one(gpus=[[3, 1]]), context(3), shapes)
    assert demand.cards == ("card 3 (P104-100)", "card 1 (P104-100)")
    found = {place.name: place for place in judged("rig", one(gpus=[[3, 1]], preset={"device": "CUDA0"}), context(3), shapes)}
    assert [name for name, place in found.items() if place.rows and name != HOST] == ["card 3 (P104-100)"]


@pytest.mark.parametrize(
    ("option", "device", "backend", "has"),
    [
        ("device", "CUDA2", "cuda", "chat has CUDA0, CUDA1"),
        ("spec-draft-device", "CUDA0,Vulkan0", "cuda", "chat has CUDA0, CUDA1"),
        ("mmproj-device", "CUDA0", "cpu", "chat has none here: it computes on the processor"),
        ("device", "CUDA1,cuda0", "cuda", ""),
        ("device", "none", "cpu", ""),
        ("device", "Vulkan3", "vulkan", ""),
    ],
)
def test_a_device_that_a_server_does_not_have_is_refused(
    shapes: dict[str, ModelShape], option: str, device: str, backend: str, has: str
) -> None:
    gpus = {"gpus": [[1, 2]]} if backend == "cuda" else {}
    said = list(refusals("rig", one(**gpus, preset={option: device}), context(3, backend), shapes))
    where = f"hosts.rig.roles.llama_server.instances.chat.preset: {option}: there is no device {device.split(',')[-1]}"
    assert said == ([f"{where}: {has}"] if has else [])


@pytest.mark.parametrize(("backend", "value", "is_refused"), [("cpu", 512, True), ("cpu", 0, False), ("cuda", 512, False)])
def test_a_cache_for_experts_needs_a_card(shapes: dict[str, ModelShape], backend: str, value: int, is_refused: bool) -> None:
    """llama-server ends: "MoE cache requires a GPU backend"."""
    said = list(refusals("rig", one(preset={"moe-cache-mib": value}), context(1, backend), shapes))
    where = "hosts.rig.roles.llama_server.instances.chat.preset: moe-cache-mib"
    assert said == ([f"{where}: a cache on the cards, and chat computes on the processor: leave it out"] if is_refused else [])


@pytest.mark.parametrize(
    "preset",
    [
        {"split-mode": "none", "main-gpu": "1.5"},
        {"split-mode": "none", "main-gpu": "abc"},
        {"tensor-split": "-1,1"},
        {"tensor-split": "nan"},
        {"tensor-split": "inf,1"},
    ],
)
def test_odd_numbers_are_refused_in_words(shapes: dict[str, ModelShape], preset: dict[str, Value]) -> None:
    option = [*preset][-1]
    said = list(refusals("rig", one(gpus=[[1, 2]], preset=preset), context(3), shapes))
    assert len(said) == 1 and f"{option}: {preset[option]} is not " in said[0]


def test_where_no_card_has_a_share_nothing_is_shared_out(shapes: dict[str, ModelShape]) -> None:
    preset: dict[str, Value] = {"n-cpu-moe": 8, "device": "none", "override-tensor": "attn=CUDA0", "moe-cache-mib": 900}
    assert not list(refusals("rig", one(preset=preset), context(1), shapes))


def test_a_gpu_that_shares_the_machines_memory_is_a_device(shapes: dict[str, ModelShape]) -> None:
    here = context(1)
    card = replace(here.hardware["rig"].nvidia_cards[0], memory_mib=0, name="NVIDIA Orin", address="", uuid="")
    shared = replace(here.hardware["rig"], architecture="aarch64", nvidia_cards=(card,), gpus=())
    here = replace(here, hardware={"rig": shared})
    assert not list(refusals("rig", one(preset={"device": "CUDA0"}), here, shapes))


def test_where_there_can_be_no_llama_cpp_nobody_knows_what_fits(shapes: dict[str, ModelShape]) -> None:
    here = replace(context(1), releases={"rig": PaddockError("roles.llama_cpp: no compiler")})
    this = fleet(models=["chat"], preset={"ctx-size": 512})
    assert machine("rig", this, here) is None and judged("rig", this, here, shapes) == ()


STRIX_HALO = replace(
    context(1).hardware["rig"],
    memory_mib=128000,
    gpus=(PciDevice("0000:c3:00.0", "1002", "1586", memory_mib=512),),
    nvidia_cards=(),
    vulkan=(VulkanDevice("Radeon 8060S", "radv", "integrated", "1.4"), VulkanDevice("llvmpipe", "llvmpipe", "cpu", "1.4")),
)


def halo(tokens: int, gtt_mib: int, preset: dict[str, Value]) -> Fleet:
    serving = {"models": ["chat"], "preset": {"parallel": 1, "cache-ram": 0, **preset}}
    gpu = {"gpu": {"amd": {"gtt_mib": gtt_mib}}} if gtt_mib else {}
    host = {"name": "rig", "address": "192.0.2.3", "roles": {**gpu, "llama_cpp": {}, "models": {}, "llama_server": serving}}
    models = {"chat": {"preset": {"ctx-size": tokens}}}
    return Fleet.model_validate({"name": "halo", "domain": "home.example", "hosts": {"rig": host}, "models": models})


@pytest.mark.parametrize(
    ("tokens", "gtt_mib", "preset", "is_refused", "is_told"),
    [
        (16384, 0, {}, False, False),
        (600000, 0, {}, False, True),
        (600000, 0, {"device": "none"}, False, False),
        (600000, 110000, {}, False, False),
        (600000, 65000, {}, True, False),
        (600000, 65000, {"n-gpu-layers": 8}, False, False),
    ],
)
def test_graphics_in_the_processor_take_no_more_of_the_memory_than_they_may(
    shapes: dict[str, ModelShape], tokens: int, gtt_mib: int, preset: dict[str, Value], is_refused: bool, is_told: bool
) -> None:
    here = replace(context(1, "vulkan"), hardware={"rig": STRIX_HALO})
    this = halo(tokens, gtt_mib, preset)
    refused = list(refusals("rig", this, here, shapes))
    told = [line for line in remarks("rig", this, here, shapes) if "graphics" in line]
    assert len(refused) == is_refused and len(told) == is_told
    assert all("graphics memory has 65512 MiB and would need" in line for line in refused)
    assert all("of the graphics at a time, which may take 64512 unless the kernel is told otherwise" in line for line in told)
