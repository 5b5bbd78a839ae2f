"""The options of llama-server that decide memory, out of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from inventory.errors import PaddockError
from inventory.model_shape import ModelShape
from roles.preset import is_on

Value = str | int | float | bool

ROW_BYTES = {
    "f32": Fraction(4),
    "f16": Fraction(2),
    "bf16": Fraction(2),
    "q8_0": Fraction(34, 32),
    "q5_1": Fraction(24, 32),
    "q5_0": Fraction(22, 32),
    "q4_1": Fraction(20, 32),
    "q4_0": Fraction(18, 32),
    "iq4_nl": Fraction(18, 32),
}
"""Bytes a number in the KV cache, by its type (common/arg.cpp: kv_cache_types; ggml.c: type_traits)."""


@dataclass(frozen=True)
class Serving:
    """The options that decide memory, as llama-server takes them."""

    context: int = 0
    """0: what the model was trained for."""
    slots: int = 4
    unified: bool = True
    """One cache for all slots. llama-server's default is four slots with one (tools/server/server.cpp)."""
    batch: int = 2048
    ubatch: int = 512
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    """`auto` is taken for on: llama.cpp turns it off only where a backend lacks it."""
    window_full: bool = False
    gpu_layers: int = 1 << 16
    cpu_experts: int = 0
    """The first so many layers leave their experts in host memory."""
    cache_on_card: bool = True
    embeds: bool = False
    """Texts become vectors: every token has an output."""
    prompt_cache_mib: int = 8192
    outputs: int | None = None
    """Tokens of a batch that have an output; by default one a slot, or all where it embeds."""


# Options by any of their spellings (common/arg.cpp).
SPELLINGS = {
    **dict.fromkeys(("c", "ctx-size"), "context"),
    **dict.fromkeys(("np", "parallel"), "slots"),
    **dict.fromkeys(("b", "batch-size"), "batch"),
    **dict.fromkeys(("ub", "ubatch-size"), "ubatch"),
    **dict.fromkeys(("ctk", "cache-type-k"), "type_k"),
    **dict.fromkeys(("ctv", "cache-type-v"), "type_v"),
    **dict.fromkeys(("kvu", "kv-unified"), "unified"),
    **dict.fromkeys(("no-kvu", "no-kv-unified"), "not unified"),
    **dict.fromkeys(("fa", "flash-attn"), "flash_attention"),
    "swa-full": "window_full",
    **dict.fromkeys(("ngl", "gpu-layers", "n-gpu-layers"), "gpu_layers"),
    **dict.fromkeys(("cmoe", "cpu-moe"), "all experts"),
    **dict.fromkeys(("ncmoe", "n-cpu-moe"), "cpu_experts"),
    **dict.fromkeys(("kvo", "kv-offload"), "cache_on_card"),
    **dict.fromkeys(("nkvo", "no-kv-offload"), "not cache_on_card"),
    **dict.fromkeys(("embedding", "embeddings", "rerank", "reranking"), "embeds"),
    "pooling": "pooling",
    **dict.fromkeys(("cram", "cache-ram"), "prompt_cache_mib"),
}
WHOLE = frozenset(("context", "slots", "batch", "ubatch", "gpu_layers", "cpu_experts", "prompt_cache_mib"))


def serving(preset: Mapping[str, Value]) -> Serving:
    """What a preset says of memory. Raises PaddockError where a value is not one that llama-server takes."""
    found: dict[str, tuple[str, Value]] = {SPELLINGS[option]: (option, value) for option, value in preset.items() if option in SPELLINGS}
    values: dict[str, int] = {}
    for name in WHOLE & set(found):
        option, value = found[name]
        words = {"auto": 1 << 16, "all": 1 << 16} if name == "gpu_layers" else {}
        try:
            number = words[str(value)] if str(value) in words else int(str(value))
        except ValueError:
            raise PaddockError(f"{option}: {value} is no whole number") from None
        values[name] = number
    slots, layers = values.get("slots", -1), values.get("gpu_layers", -1)
    truths = {name: is_on(found[name][1]) for name in found if name not in WHOLE}
    types = {name: str(found[name][1]).lower() for name in ("type_k", "type_v") if name in found}
    if wrong := [value for value in types.values() if value not in ROW_BYTES]:
        raise PaddockError(f"a KV cache has no type {wrong[0]}: it is one of {', '.join(ROW_BYTES)}")
    cache = values.get("prompt_cache_mib", Serving.prompt_cache_mib)
    return Serving(
        context=max(values.get("context", 0), 0),
        slots=slots if slots > 0 else Serving.slots,
        unified=truths.get("unified", slots < 0) and not truths.get("not unified"),
        batch=max(values.get("batch", Serving.batch), 1),
        ubatch=max(values.get("ubatch", Serving.ubatch), 1),
        flash_attention="flash_attention" not in found or str(found["flash_attention"][1]).lower() not in ("off", "false", "0", "disabled"),
        window_full=truths.get("window_full", False),
        gpu_layers=layers if layers >= 0 else Serving.gpu_layers,
        cpu_experts=1 << 16 if truths.get("all experts") else values.get("cpu_experts", 0),
        cache_on_card=truths.get("cache_on_card", True) and not truths.get("not cache_on_card"),
        embeds=truths.get("embeds", False) or str(found.get("pooling", ("", "none"))[1]) != "none",
        prompt_cache_mib=max(cache, 0),
        type_k=types.get("type_k", Serving.type_k),
        type_v=types.get("type_v", Serving.type_v),
    )


def settled(shape: ModelShape, options: Serving) -> Serving:
    """The options as llama.cpp uses them for this model (llama-context.cpp: the constructor; server.cpp, server-context.cpp)."""
    context = options.context or shape.context_length
    batch = min(options.batch, options.ubatch) if options.embeds else options.batch
    batch = min(context, batch) if shape.causal else batch
    ubatch = min(batch, options.ubatch)
    flash = (options.flash_attention or options.type_v not in ("f32", "f16", "bf16")) and shape.architecture != "grok"
    outputs = options.outputs if options.outputs is not None else ubatch if options.embeds else options.slots
    a_slot = padded(context) if options.unified else padded(padded(context) // options.slots)
    whole = a_slot if options.unified else a_slot * options.slots
    return replace(options, context=whole, batch=batch, ubatch=min(ubatch, whole), flash_attention=flash, outputs=min(outputs, ubatch))


def padded(count: int) -> int:
    return -(-count // 256) * 256


def context_of(options: Serving) -> int:
    """Cells that each slot has, or that all have together."""
    return options.context if options.unified else options.context // options.slots
