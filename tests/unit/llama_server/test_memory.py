"""The formulas of memory.py, on models of real shape. What llama.cpp itself finds for them is in tests/serving/test_fit.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.models.gguf import local_shape
from inventory.errors import PaddockError
from inventory.model_shape import ModelShape
from inventory.options import Sizing
from roles.llama_server.caches import SLIDING, slides, takes_type
from roles.llama_server.memory import MIB, MemoryNeeds, needs
from roles.llama_server.memory_options import ROW_BYTES, MemoryOptions, Value, memory_options
from roles.llama_server.overrides import overridden
from tests.unit.sparse_model import MODELS, write


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    directory: Path = tmp_path_factory.mktemp("models")
    return {name: local_shape(write(directory / f"{name}.gguf", model())) for name, model in MODELS.items()}


def on_host(shape: ModelShape, **options: Value) -> MemoryNeeds:
    return needs(shape, memory_options({name.replace("_", "-"): value for name, value in options.items()}))


# What llama-fit-params prints as context, in MiB.
CACHES: list[tuple[str, dict[str, Value], float]] = [
    ("llama_8b", {"ctx_size": 16384}, 2048),
    ("llama_8b", {"ctx_size": 16384, "ctk": "q8_0", "ctv": "q8_0"}, 1088),
    ("llama_8b", {"c": 65536, "cache_type_k": "q4_0", "cache_type_v": "q4_0"}, 2304),
    ("llama_8b", {"c": 20000, "np": 3, "ctk": "q5_1", "ctv": "q5_1"}, 972),
    ("llama_8b", {"c": 5000, "parallel": 3}, 672),
    ("llama_8b", {"ctk": "q8_0", "ctv": "q8_0"}, 8704),
    ("qwen3_30b_a3b", {"ctx_size": 16384}, 1536),
    ("qwen35_35b_a3b", {"ctx_size": 16384, "np": 1}, 382.8125),
    ("gpt_oss_20b", {"ctx_size": 16384, "np": 1}, 402),
    ("gpt_oss_20b", {"ctx_size": 16384, "np": 4}, 456),
    ("gpt_oss_20b", {"ctx_size": 16384, "ubatch_size": 64, "np": 1}, 390),
    ("gpt_oss_20b", {"ctx_size": 16384, "swa_full": True}, 768),
    ("gemma3_4b", {"ctx_size": 16384, "np": 1}, 494),
    ("gemma3_4b", {"ctx_size": 16384, "np": 4}, 1016),
    ("deepseek_v2_lite", {"ctx_size": 16384}, 486),
    ("deepseek_v2_lite", {"ctx_size": 65536, "ctk": "q4_0", "ctv": "q4_0"}, 546.75),
    ("nomic_embed_text", {"ctx_size": 2048, "embeddings": True}, 0),
]


@pytest.mark.parametrize(("model", "options", "mib"), CACHES)
def test_the_cache_is_as_llama_cpp_allocates_it(shapes: dict[str, ModelShape], model: str, options: dict[str, Value], mib: float) -> None:
    assert on_host(shapes[model], **options).host.kv / MIB == mib


def test_four_slots_share_one_cache_unless_their_number_is_given(shapes: dict[str, ModelShape]) -> None:
    """llama-server's default; with `parallel` each slot has a part of the context to itself."""
    assert on_host(shapes["llama_8b"], ctx_size=16384).context == 16384
    assert on_host(shapes["llama_8b"], ctx_size=16384, parallel=4).context == 4096
    assert on_host(shapes["llama_8b"], ctx_size=16384, parallel=4, kv_unified=True).context == 16384


# Cells that all streams together have, and what a slot gets: with one head of 64 a cell of the model below takes 1 KiB. Trained for 4096.
POOLS: list[tuple[dict[str, Value], int, int]] = [
    ({}, 4096, 4096),
    ({"ctx-size": 0}, 4096, 4096),
    ({"ctx-size": 1000}, 1024, 1024),
    ({"parallel": 4}, 4096, 1024),
    ({"parallel": -1}, 4096, 4096),
    ({"parallel": -1, "kv-unified": False}, 4096, 4096),  # a number of slots that is not given is four with one cache, whatever is said
    ({"no-kv-unified": True}, 4096, 4096),
    ({"parallel": 4, "kv-unified": True}, 4096, 4096),
    ({"parallel": 4, "no-kv-unified": "off"}, 4096, 4096),
    ({"parallel": 4, "no-kv-unified": True, "kvu": "on"}, 4096, 4096),  # what is said later counts
    ({"parallel": 4, "kvu": "on", "no-kv-unified": True}, 4096, 1024),
    ({"parallel": 3, "c": 1000}, 3 * 512, 512),
    ({"kv-unified-per-slot": 4096}, 16384, 4096),
    ({"kv-unified-per-slot": 1000}, 4096, 1000),
    ({"kv-unified-per-slot": 1024, "np": 2}, 2048, 1024),
    ({"kv-unified-per-slot": 1024, "np": 2, "kvu": True}, 2048, 1024),
    ({"kv-unified-per-slot": 1000, "np": 2}, 2048, 1000),
    ({"kv-unified-per-slot": 1024, "ctx-size": 8192}, 8192, 1024),
    ({"kv-unified-per-slot": 1024, "ctx-size": 0}, 4096, 1024),  # said aloud, it is the training
    ({"kv-unified-per-slot": 4096, "ctx-size": 2048}, 2048, 2048),
    ({"kv-unified-per-slot": 8192}, 32768, 4096),
    ({"kv-unified-per-slot": -1}, 4096, 4096),
    ({"ctx-size": 16384}, 16384, 4096),
    ({"ctx-size": 16384, "parallel": 2}, 16384, 4096),
]


@pytest.mark.parametrize(("preset", "cells", "slot"), POOLS)
def test_cells_and_slots_are_as_llama_server_makes_them(preset: dict[str, Value], cells: int, slot: int) -> None:
    found = needs(hybrid("llama"), memory_options(preset))
    assert (found.host.kv // 1024, found.context) == (cells, slot)


@pytest.mark.parametrize(
    ("preset", "cells"),
    [
        ({"ctx-size": 8192, "np": 1, "ub": 500}, 768),  # 256 + 500, and padded
        ({"ctx-size": 8192}, 1536),  # 4 × 256 + 512
        ({"ctx-size": 8192, "np": 4}, 4 * 768),
        ({"ctx-size": 8192, "np": 4, "swa-full": True}, 8192),
        ({"ctx-size": 512, "np": 1}, 512),
        ({"kv-unified-per-slot": 2048}, 1536),
        ({"kv-unified-per-slot": 2048, "np": 2}, 2 * 768),
        ({"ctx-size": 8192, "np": 1, "ub": 0, "b": 512}, 768),  # 0 is as large as a batch
        ({"ctx-size": 4096, "np": 1, "ub": 0, "b": -1}, 4096),  # and a batch of less than nothing is as large as the context
    ],
)
def test_layers_with_a_window_have_the_cells_that_it_takes(preset: dict[str, Value], cells: int) -> None:
    shape = hybrid("gemma4", sliding_window_pattern=(1, 1, 1, 1), sliding_window=256)
    assert needs(shape, memory_options(preset)).host.kv // 1024 == cells


def test_types_of_the_cache_count_by_their_blocks() -> None:
    sizes = {kind: needs(hybrid("llama"), memory_options({"c": 2048, "ctk": kind, "ctv": kind})).host.kv for kind in ROW_BYTES}
    assert sizes == {kind: 2048 * 4 * 2 * 64 * size for kind, size in ROW_BYTES.items()}


@pytest.mark.parametrize(
    ("preset", "yarn_raises_limit", "slot"),
    [
        ({"rope-scaling": "yarn", "rope-scale": 4}, True, 16384),
        ({"rope-scaling": "yarn", "rope-freq-scale": 0.25}, True, 16384),
        ({"rope-scaling": "yarn", "rope-scale": 4, "yarn-orig-ctx": 2048}, True, 8192),
        ({"rope-scaling": "yarn", "rope-scale": 4}, False, 4096),
        ({"rope-scaling": "linear", "rope-scale": 4}, True, 4096),
        ({"rope-scale": 4}, True, 4096),
        ({"rope-scaling": "yarn"}, True, 4096),
    ],
)
def test_what_stretches_positions_raises_a_slots_limit_only_by_yarn_and_in_newer_versions(
    preset: dict[str, Value], yarn_raises_limit: bool, slot: int
) -> None:
    options = memory_options({"ctx-size": 32768, **preset}, Sizing(yarn_raises_limit=yarn_raises_limit))
    assert needs(hybrid("llama"), options).context == slot


@pytest.mark.parametrize(
    ("preset", "cells", "slot"),
    [
        ({"parallel": 4}, 16384, 4096),
        ({"parallel": 4, "ctx-size": 0}, 16384, 4096),
        ({"parallel": 4, "ctx-size": 4096}, 4096, 1024),
        ({"parallel": 4, "fit": "off"}, 4096, 1024),
        ({"parallel": 4, "split-mode": "tensor"}, 4096, 1024),
        ({"parallel": 4, "kv-unified": True}, 4096, 4096),
        ({}, 4096, 4096),
        ({"parallel": 2, "kv-unified-per-slot": 512}, 1024, 512),
        ({"parallel": 2, "rope-scaling": "yarn", "rope-scale": 2}, 16384, 8192),
        ({"parallel": 2, "rope-scaling": "yarn", "rope-scale": 2, "fit": "off"}, 4096, 2048),
    ],
)
def test_newer_versions_give_each_slot_all_of_the_training_where_no_context_is_given(
    preset: dict[str, Value], cells: int, slot: int
) -> None:
    """As llama-server 0.3.36 does with `fit`, which is its default."""
    found = needs(hybrid("llama"), memory_options(preset, Sizing(yarn_raises_limit=True, fit_counts_slots=True)))
    assert (found.host.kv // 1024, found.context) == (cells, slot)


def test_a_model_that_is_made_for_yarn_needs_no_word_on_it() -> None:
    shape = hybrid("llama", rope_scaling_type="yarn", rope_scaling_factor=2.0, rope_scaling_original_context_length=2048)
    sizes = [memory_options({"ctx-size": 32768, **more}, Sizing(yarn_raises_limit=True)) for more in ({}, {"rope-scale": 4})]
    assert [needs(shape, each).context for each in sizes] == [4096, 8192]


def test_an_override_of_the_header_counts() -> None:
    shape = hybrid("gemma4", sliding_window_pattern=(1, 1, 1, 1), sliding_window=256, expert_used_count=(1, 2, 1, 2))
    changed = overridden(
        shape,
        {"override-kv": "gemma4.context_length=int:8192,tokenizer.ggml.add_bos_token=bool:false,gemma4.attention.sliding_window=int:512"},
    )
    assert (changed.context_length, changed.sliding_window) == (8192, 512)
    for other in ("llama.context_length=int:8192", "gemma4.context_length=str:x", "gemma4.expert_used_count=int:8", "", "="):
        assert overridden(shape, {"override-kv": other}) == shape
    assert overridden(shape, {}) == shape


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"ctx-size": -1}, "ctx-size: -1 is not a number of tokens"),
        ({"np": 0}, "np: llama-server has no 0 slots"),
        ({"parallel": 257}, "parallel: llama-server has no 257 slots, it would not start: use 1 to 256, or -1"),
        ({"kv-unified-per-slot": "many"}, "kv-unified-per-slot: many is not a whole number"),
        ({"rope-scale": "far"}, "rope-scale: far is not a number"),
    ],
)
def test_what_llama_server_would_not_take_is_refused(preset: dict[str, Value], words: str) -> None:
    with pytest.raises(PaddockError, match=f"^{words}"):
        memory_options(preset)


def test_all_layers_on_a_card_leave_the_embedding_to_the_host(shapes: dict[str, ModelShape]) -> None:
    shape = shapes["llama_8b"]
    found = needs(shape, memory_options({"n-gpu-layers": 33, "ctx-size": 16384}), [1])
    assert found.host.weights == shape.input_bytes
    assert found.cards[0].weights == shape.tensor_bytes - shape.input_bytes
    assert (found.cards[0].kv, found.host.kv) == (2048 * MIB, 0)
    assert found == needs(shape, memory_options({"ctx-size": 16384}), [1]) == needs(shape, memory_options({"ngl": "all", "c": 16384}), [1])


def test_layers_that_are_not_on_a_card_keep_their_cache_in_host_memory(shapes: dict[str, ModelShape]) -> None:
    """The last layers go first, and the output before them: 1 is the output layer alone."""
    shape = shapes["llama_8b"]
    found = [needs(shape, memory_options({"ngl": count, "c": 16384}), [1]) for count in (0, 1, 17, 33)]
    assert [each.cards[0].kv // MIB for each in found] == [0, 0, 1024, 2048]
    assert [each.host.kv // MIB for each in found] == [2048, 2048, 1024, 0]
    assert found[1].cards[0].weights == shape.output_bytes
    assert all(each.cards[0].weights + each.host.weights == shape.tensor_bytes for each in found)


def test_several_cards_share_the_layers_by_their_room(shapes: dict[str, ModelShape]) -> None:
    shape = shapes["llama_8b"]
    small, large = needs(shape, memory_options({"c": 16384}), [8000, 24000]).cards
    assert (small.kv // MIB, large.kv // MIB) == (9 * 64, 23 * 64)  # 33 layers with the output, which the last card has
    assert small.weights + large.weights == shape.tensor_bytes - shape.input_bytes


def test_an_embedding_that_is_the_output_layer_too_lies_on_the_card_once_more(shapes: dict[str, ModelShape]) -> None:
    shape = shapes["gemma3_4b"]
    found = needs(shape, MemoryOptions(), [1])
    assert found.cards[0].weights + found.host.weights == shape.tensor_bytes + shape.tied_bytes
    assert shape.tied_bytes > 500 * MIB
    assert needs(shape, MemoryOptions()).host.weights == shape.tensor_bytes


def test_experts_can_stay_in_host_memory(shapes: dict[str, ModelShape]) -> None:
    shape = shapes["qwen3_30b_a3b"]
    all_there, some, none = (needs(shape, memory_options(preset), [1]) for preset in ({}, {"n-cpu-moe": 10}, {"cpu-moe": True}))
    assert isinstance(shape.expert_bytes, int)
    assert all_there.cards[0].weights - some.cards[0].weights == 10 * shape.expert_bytes
    assert none.cards[0].weights < 2 * 1024 * MIB
    assert all_there.cards[0].kv == none.cards[0].kv


def test_a_cache_for_experts_is_shared_out_over_the_cards(shapes: dict[str, ModelShape]) -> None:
    shape, preset = shapes["qwen3_30b_a3b"], {"n-cpu-moe": 10, "moe-cache-mib": 900}
    assert [each.other for each in needs(shape, memory_options(preset), [2, 1]).cards] == [600 * MIB, 300 * MIB]
    assert [each.other for each in needs(shape, memory_options({"moe-cache-mib": 900}), [1]).cards] == [0]
    assert [each.other for each in needs(shapes["llama_8b"], memory_options(preset), [1]).cards] == [0]


def test_a_cache_can_be_kept_off_the_card(shapes: dict[str, ModelShape]) -> None:
    found = needs(shapes["llama_8b"], memory_options({"c": 16384, "no-kv-offload": True}), [1])
    assert (found.cards[0].kv, found.host.kv) == (0, 2048 * MIB)


def test_layers_that_only_draft_are_not_loaded(shapes: dict[str, ModelShape]) -> None:
    shape = replace(shapes["llama_8b"], nextn_predict_layers=1)
    assert isinstance(shape.layer_bytes, tuple)
    assert shapes["llama_8b"].tensor_bytes - on_host(shape).host.weights == shape.layer_bytes[-1]
    assert on_host(shape, ctx_size=16384).host.kv == 31 * 64 * MIB


def test_who_embeds_has_an_output_for_every_token(shapes: dict[str, ModelShape]) -> None:
    """Which of a model that also writes are the scores of a whole vocabulary."""
    shape = shapes["llama_8b"]
    assert on_host(shape, ctx_size=16384).host.compute < 140 * MIB
    assert on_host(shape, ctx_size=16384, embeddings=True).host.compute > 250 * MIB


def hybrid(architecture: str, **more: object) -> ModelShape:
    """A model of four layers, each with one head of 64 for keys and for values: 512 KiB of cache at 2048 cells."""
    base = ModelShape(architecture, 1000, block_count=4, context_length=4096, embedding_length=64, head_count=1, head_count_kv=1)
    return replace(base, feed_forward_length=0, **more)  # type: ignore[arg-type]


CACHE = 2048 * 64 * 2 * 2

# Bytes of all layers at 2048 cells, two slots with one cache: the states are two each, of f32.
STATES = [
    (hybrid("llama"), 4 * CACHE),
    (hybrid("bert"), 0),
    (hybrid("mamba", ssm_conv_kernel=4, ssm_inner_size=128, ssm_state_size=16), 4 * 2 * 4 * (3 * 128 + 16 * 128)),
    (hybrid("mamba2", ssm_conv_kernel=4, ssm_inner_size=128, ssm_state_size=16, ssm_group_count=1), 4 * 2 * 4 * (3 * 160 + 16 * 128)),
    (hybrid("rwkv7", wkv_head_size=64, token_shift_count=2), 4 * 2 * 4 * (128 + 64 * 64)),
    (hybrid("lfm2", head_count_kv=(0, 1, 0, 1), shortconv_l_cache=3), 2 * CACHE + 2 * 2 * 4 * 128),
    (hybrid("qwen35", ssm_conv_kernel=4, ssm_inner_size=64, ssm_state_size=16), CACHE + 3 * 2 * 4 * (3 * 64 + 16 * 64)),
    (hybrid("qwen35", recurrent_layers=(1, 1, 0, 0), ssm_state_size=16, ssm_inner_size=64), 2 * CACHE + 2 * 2 * 4 * 16 * 64),
    (hybrid("falcon-h1", ssm_state_size=16, ssm_inner_size=64), 4 * CACHE + 4 * 2 * 4 * 16 * 64),
    (hybrid("kimi-linear", head_count_kv=(0, 0, 0, 1), kda_head_dim=32, ssm_conv_kernel=4), CACHE + 3 * 2 * 4 * (3 * 3 * 32 + 32 * 32)),
    (hybrid("gemma4", sliding_window_pattern=(1, 0, 1, 0), sliding_window=256, shared_kv_layers=2), CACHE // 2 + CACHE),
]


@pytest.mark.parametrize(("shape", "size"), STATES, ids=[f"{shape.architecture}" for shape, _ in STATES])
def test_states_and_caches_by_architecture(shape: ModelShape, size: int) -> None:
    assert needs(shape, MemoryOptions(context=2048, slots=2, ubatch=512)).host.kv == size


def test_values_without_flash_attention_are_as_wide_as_the_widest_layers() -> None:
    shape = hybrid("llama", head_count_kv=(1, 1, 2, 1))
    assert needs(shape, MemoryOptions(context=2048)).host.kv == CACHE * 5
    assert needs(shape, MemoryOptions(context=2048, flash_attention=False)).host.kv == CACHE * 5 // 2 + 4 * CACHE


@pytest.mark.parametrize(
    ("architecture", "said", "sliding"),
    [
        ("gemma3", {"sliding_window": 1024}, "111110"),
        ("gemma3", {}, "000000"),
        ("gemma3", {"sliding_window": 1024, "sliding_window_pattern": 2}, "101010"),
        ("gpt-oss", {"sliding_window": 128}, "101010"),
        ("gpt-oss", {"sliding_window": 128, "sliding_window_pattern": (0, 0, 1, 0, 0, 1)}, "001001"),
        ("gemma2", {}, "101010"),
        ("llama4", {}, "111011"),
        ("llama4", {"sliding_window": 0}, "000000"),
        ("cohere2moe", {"sliding_window": 4096}, "011101"),
        ("phi3", {"sliding_window": 2048}, "000000"),
        ("llama", {"sliding_window": 4096}, "000000"),
    ],
)
def test_which_layers_slide(architecture: str, said: dict[str, int], sliding: str) -> None:
    shape = replace(hybrid(architecture), block_count=6, **said)  # type: ignore[arg-type]
    assert "".join(str(int(slides(shape, layer))) for layer in range(6)) == sliding


def test_every_sliding_architecture_has_a_window_or_takes_the_header_s() -> None:
    assert [
        name for name in SLIDING if not any(slides(replace(hybrid(name), block_count=64, sliding_window=512), each) for each in range(64))
    ] == []


def test_an_architecture_with_a_cache_of_its_own_kind_is_not_called_exact() -> None:
    assert not needs(hybrid("deepseek4"), MemoryOptions()).exact
    assert needs(hybrid("llama"), MemoryOptions()).exact


def test_heads_that_are_no_whole_blocks_take_no_quantized_cache() -> None:
    assert takes_type(hybrid("llama"), "q8_0")
    assert not takes_type(hybrid("llama", key_length=80, value_length=80), "q8_0")
    assert takes_type(hybrid("llama", key_length=80, value_length=80), "f16")


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"ctx-size": "large"}, "ctx-size: large is not a whole number"),
        ({"cache-type-k": "q2_k"}, "cache-type-k: a KV cache has no type q2_k: it is one of f32, f16, bf16, q8_0"),
    ],
)
def test_a_value_that_llama_server_refuses_is_refused_in_words(preset: dict[str, Value], words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        memory_options(preset)
