"""What a projector, a draft and adapters take beside their model: on the first card, on all of them, or in host memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFWriter

from control.models.gguf import local_shape
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.model_shape import ModelShape
from roles.llama_server.beside import beside
from roles.llama_server.demands import demands, refusals, remarks, unchecked
from roles.llama_server.fit import HOST, Load, ServingMemory, fit
from roles.llama_server.loading import faults
from roles.llama_server.memory import MIB, needs
from roles.llama_server.memory_options import Value, memory_options
from tests.unit.llama_server.test_memory_demands import context
from tests.unit.sparse_model import llama_8b, write

SHA, CARDS = "a" * 64, ("CUDA0", "CUDA1")
EYES = ModelShape("clip", 800 * MIB, context_length=576, embedding_length=1024, feed_forward_length=4096, head_count=16)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ModelShape:
    return local_shape(write(tmp_path_factory.mktemp("models") / "chat.gguf", llama_8b()))


def taken(chat: ModelShape, *files: tuple[str, ModelShape], cards: int = 2, **preset: Value) -> tuple[list[int], int]:
    """MiB on each card, and in host memory."""
    given = {name.replace("_", "-"): value for name, value in preset.items()}
    found, host = beside(files, chat, memory_options(given), given, [f"CUDA{card}" for card in range(cards)], (1,) * cards)
    return [each.total // MIB for each in found], host.total // MIB


def test_a_projector_lies_on_the_first_card_with_room_for_an_image(chat: ModelShape) -> None:
    first, second = taken(chat, ("mmproj", EYES))[0]
    assert (second, first) == (0, 800 + 4 * 576 * (3 * 4096 + 7 * 1024) // MIB)


@pytest.mark.parametrize("preset", [{"no_mmproj_offload": True}, {"mmproj_offload": False}])
def test_one_that_computes_on_the_processor_lies_in_host_memory(chat: ModelShape, preset: dict[str, Value]) -> None:
    cards, host = taken(chat, ("mmproj", EYES), **preset)
    assert cards == [0, 0] and host > 800


def test_without_flash_attention_it_keeps_the_scores_of_all_patches(chat: ModelShape) -> None:
    assert taken(chat, ("mmproj", EYES), flash_attn="off")[0][0] - taken(chat, ("mmproj", EYES))[0][0] in (20, 21)  # 4 × 16 × 576² bytes


def test_a_draft_has_the_models_context_and_slots_and_its_own_cache(chat: ModelShape) -> None:
    preset: dict[str, Value] = {"ctx-size": 16384, "parallel": 2}
    found, host = beside([("draft", chat)], chat, memory_options(preset), preset, CARDS, (1, 1))
    alone = needs(chat, replace(memory_options(preset), outputs=2), (1, 1))
    assert (found, host) == (alone.cards, alone.host)
    quantized = {**preset, "spec-draft-type-k": "q8_0", "ctvd": "q8_0"}
    half, _ = beside([("draft", chat)], chat, memory_options(preset), quantized, CARDS, (1, 1))
    assert [round(each.kv / whole.kv, 2) for each, whole in zip(half, found, strict=True)] == [0.53, 0.53]


def test_a_draft_is_not_quantized_or_kept_off_the_cards_because_its_model_is(chat: ModelShape) -> None:
    plain = taken(chat, ("draft", chat), ctx_size=8192)
    assert taken(chat, ("draft", chat), ctx_size=8192, cache_type_k="q8_0", ctv="q8_0", n_gpu_layers=0, cpu_moe=True) == plain


@pytest.mark.parametrize("preset", [{"spec_draft_device": "none"}, {"ngld": 0}])
def test_a_draft_that_is_kept_off_the_cards_lies_in_host_memory(chat: ModelShape, preset: dict[str, Value]) -> None:
    cards, host = taken(chat, ("draft", chat), ctx_size=8192, **preset)
    assert max(cards) < 1 and host > 6000


def test_adapters_and_vectors_count_by_their_weights(chat: ModelShape) -> None:
    tone = ModelShape("llama", 40 * MIB)
    assert taken(chat, ("lora", tone), ("lora", tone), ("control_vector", tone)) == ([120, 0], 0)
    assert taken(chat, ("lora", tone), cards=0) == ([], 40)


def test_what_a_draft_cannot_have_is_told_at_the_models_preset(chat: ModelShape) -> None:
    load = Load("chat", chat, {"ctkd": "q9"}, "models.chat.preset", beside=(("draft", chat),))
    (said,) = faults(load)
    assert said.startswith("models.chat.preset: chat: draft: cache-type-k: a KV cache has no type q9")
    with pytest.raises(PaddockError):
        beside(load.beside, chat, load.options, load.preset)


FILES = {
    "mmproj": {"source": {"url": "https://models.home.example/eyes.gguf", "sha256": SHA}},
    "draft": {"source": {"url": "https://models.home.example/small.gguf", "sha256": SHA}},
    "chat_template_file": {"source": {"url": "https://models.home.example/chat.jinja", "sha256": SHA}},
}


def fleet() -> Fleet:
    roles = {"gpu": {"nvidia": {"driver": "installed"}}, "llama_cpp": {}, "llama_server": {"models": ["chat"]}}
    chat = {"source": {"url": "https://models.home.example/chat.gguf", "sha256": SHA}, "preset": {"ctx-size": 8192}, **FILES}
    host = {"name": "rig", "address": "192.0.2.10", "roles": roles}
    return Fleet.model_validate({"name": "rigs", "domain": "home.example", "hosts": {"rig": host}, "models": {"chat": chat}})


def test_what_is_known_of_them_counts_for_their_model(chat: ModelShape) -> None:
    machine = ServingMemory(64000, {"card 0 (P104-100)": 8118, "card 1 (P104-100)": 8118}, "cuda")
    totals = []
    for known in ({"chat": chat}, {"chat": chat, "chat+mmproj": EYES, "chat+draft": chat}):
        (demand,) = demands("rig", fleet(), context(2), known)
        totals.append([place.used for place in fit(machine, [replace(demand, cards=tuple(machine.cards))]) if place.name != HOST])
    assert all(more > less for less, more in zip(*totals, strict=True))
    assert totals[1][0] - totals[0][0] > totals[1][1] - totals[0][1]  # the projector is on the first


def test_what_is_unknown_of_them_is_told_once_and_a_text_takes_nothing(chat: ModelShape) -> None:
    said = list(unchecked("rig", fleet(), context(2), {"chat": chat}))
    assert [line.partition(": memory")[0] for line in said] == ["hosts.rig: models.chat.mmproj", "hosts.rig: models.chat.draft"]
    assert not list(remarks("rig", fleet(), context(2), {"chat": chat}))


def test_a_projector_of_a_type_that_llama_cpp_does_not_load_is_refused(chat: ModelShape) -> None:
    from inventory.options import SHIPPED, read

    here = replace(context(2), options={"rig": read(SHIPPED.read_text())})
    odd = replace(EYES, tensor_types=((999, "", "v.blk.0", "eyes.gguf"),))
    said = [line for line in refusals("rig", fleet(), here, {"chat": chat, "chat+mmproj": odd}) if "999" in line]
    assert said and said[0].startswith("hosts.rig: models.chat.mmproj: llama.cpp 0.3.36 cannot load eyes.gguf")


def written(path: Path, architecture: str, **numbers: int | str) -> ModelShape:
    import numpy

    writer = GGUFWriter(path, architecture)
    for key, value in numbers.items():
        name = key.replace("__", ".")
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(name, value)  # type: ignore[operator]
    writer.add_tensor("some.weight", numpy.zeros(256, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return local_shape(path)


def test_the_header_of_a_projector_says_what_an_image_takes(tmp_path: Path) -> None:
    sizes = {"clip__vision__patch_size": 14, "clip__vision__image_size": 336, "clip__vision__embedding_length": 1024}
    fixed = written(tmp_path / "a.gguf", "clip", clip__projector_type="mlp", clip__vision__feed_forward_length=4096, **sizes)
    assert (fixed.tensor_bytes, fixed.context_length, fixed.embedding_length, fixed.feed_forward_length) == (1024, 576, 1024, 4096)
    merging = written(tmp_path / "b.gguf", "clip", clip__projector_type="qwen2.5vl_merger", **sizes)
    assert merging.context_length == (46 * 2) ** 2
    assert written(tmp_path / "c.gguf", "clip").context_length == 0  # one for sound


@pytest.mark.parametrize(("architecture", "keys"), [("llama", {"general__type": "adapter"}), ("controlvector", {})])
def test_the_header_of_an_adapter_is_read_although_it_is_no_model(tmp_path: Path, architecture: str, keys: dict[str, str]) -> None:
    assert written(tmp_path / "a.gguf", architecture, **keys).tensor_bytes == 1024
