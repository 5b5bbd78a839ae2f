"""The options of llama-server that decide memory, out of a preset, and what llama-server makes of them.

Files named here are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from inventory.errors import PaddockError
from inventory.model_shape import ModelShape
from inventory.options import OLDER, Sizing
from roles.preset import is_on

Value = str | int | float | bool

SLOTS_MOST = 256
"""src/llama-cparams.h: LLAMA_MAX_SEQ"""

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
class MemoryOptions:
    """The options that decide memory, as llama-server takes them."""

    context: int = 0
    """Tokens of all slots together. 0: what the model was trained for."""
    slots: int = 4
    unified: bool = True
    """One cache for all slots. llama-server's default is four slots with one (tools/server/server.cpp)."""
    per_slot: int = 0
    """The most tokens that a slot may have (`kv-unified-per-slot`); 0: as many as there are."""
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
    expert_cache_mib: int = 0
    """On the cards together, for experts in host memory."""
    cache_on_card: bool = True
    embeds: bool = False
    """Texts become vectors: every token has an output."""
    prompt_cache_mib: int = 8192
    outputs: int | None = None
    """Tokens of a batch that have an output; by default one a slot, or all where it embeds."""
    rope_scaling: str = ""
    """`yarn`, `linear`, `none`; empty: what the model says."""
    rope_scale: float = 0.0
    """How many times as long as the training; 0: what the model says."""
    yarn_original: int = 0
    """Tokens from which YaRN counts; 0: what the model says."""
    sizing: Sizing = OLDER
    fits: bool = True
    """Whether llama-server adjusts to the memory that there is what is not given (`fit`)."""


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
    "kv-unified-per-slot": "per_slot",
    **dict.fromkeys(("fa", "flash-attn"), "flash_attention"),
    "swa-full": "window_full",
    **dict.fromkeys(("ngl", "gpu-layers", "n-gpu-layers"), "gpu_layers"),
    **dict.fromkeys(("cmoe", "cpu-moe"), "all experts"),
    **dict.fromkeys(("ncmoe", "n-cpu-moe"), "cpu_experts"),
    "moe-cache-mib": "expert_cache_mib",
    **dict.fromkeys(("kvo", "kv-offload"), "cache_on_card"),
    **dict.fromkeys(("nkvo", "no-kv-offload"), "not cache_on_card"),
    **dict.fromkeys(("embedding", "embeddings", "rerank", "reranking"), "embeds"),
    "pooling": "pooling",
    **dict.fromkeys(("cram", "cache-ram"), "prompt_cache_mib"),
    "rope-scaling": "rope_scaling",
    "rope-scale": "rope_scale",
    "rope-freq-scale": "rope_freq_scale",
    "yarn-orig-ctx": "yarn_original",
    "fit": "fits",
    **dict.fromkeys(("sm", "split-mode"), "split_mode"),
}
WHOLE = frozenset(
    (
        *("context", "slots", "per_slot", "batch", "ubatch", "gpu_layers"),
        *("cpu_experts", "expert_cache_mib", "prompt_cache_mib", "yarn_original"),
    )
)
DECIMAL = frozenset(("rope_scale", "rope_freq_scale"))
ALL = 1 << 16
BATCH_MOST = 1 << 31
"""A negative batch is a number without a sign to llama.cpp, and so a very large one (common/common.cpp)."""


def memory_options(preset: Mapping[str, Value], sizing: Sizing = OLDER) -> MemoryOptions:
    """What a preset says of memory. Raises PaddockError where a value is not one that llama-server takes.

    In the order of tools/server/server.cpp: a number of slots that is not given, or is less than nothing, is four slots with one cache,
    whatever `kv-unified` says; then `kv-unified-per-slot` gives the context, where `ctx-size` does not.
    """
    found: dict[str, tuple[str, Value]] = {}
    for option, value in preset.items():
        if name := SPELLINGS.get(option):
            found.pop(name, None)  # of several spellings the last one counts
            found[name] = (option, value)
    values = {name: _whole(name, *found[name]) for name in sorted(WHOLE & set(found))}
    decimals = {name: _decimal(*found[name]) for name in sorted(DECIMAL & set(found))}
    asked, layers = values.get("slots", -1), values.get("gpu_layers", -1)
    slots = asked if asked > 0 else MemoryOptions.slots
    per_slot = max(values.get("per_slot", 0), 0)
    truths = {
        name.removeprefix("not "): is_on(value) != name.startswith("not ")
        for name, (_, value) in found.items()
        if name not in WHOLE | DECIMAL
    }
    types = {name: str(found[name][1]).lower() for name in ("type_k", "type_v") if name in found}
    if wrong := [name for name, value in types.items() if value not in ROW_BYTES]:
        option, value = found[wrong[0]]
        raise PaddockError(f"{option}: a KV cache has no type {value}: it is one of {', '.join(ROW_BYTES)}")
    cache = values.get("prompt_cache_mib", MemoryOptions.prompt_cache_mib)
    return MemoryOptions(
        context=values.get("context", slots * per_slot),
        slots=slots,
        unified=asked < 0 or truths.get("unified", False),
        per_slot=per_slot,
        batch=_batch(values.get("batch", MemoryOptions.batch)),
        ubatch=_batch(values.get("ubatch", MemoryOptions.ubatch)),
        flash_attention="flash_attention" not in found or str(found["flash_attention"][1]).lower() not in ("off", "false", "0", "disabled"),
        window_full=truths.get("window_full", False),
        gpu_layers=layers if layers >= 0 else MemoryOptions.gpu_layers,
        cpu_experts=1 << 16 if truths.get("all experts") else values.get("cpu_experts", 0),
        expert_cache_mib=max(values.get("expert_cache_mib", 0), 0),
        cache_on_card=truths.get("cache_on_card", True),
        embeds=truths.get("embeds", False) or str(found.get("pooling", ("", "none"))[1]) != "none",
        prompt_cache_mib=max(cache, 0),
        type_k=types.get("type_k", MemoryOptions.type_k),
        type_v=types.get("type_v", MemoryOptions.type_v),
        rope_scaling=str(found["rope_scaling"][1]) if "rope_scaling" in found else "",
        rope_scale=decimals.get("rope_scale", 1 / decimals["rope_freq_scale"] if decimals.get("rope_freq_scale") else 0),
        yarn_original=max(values.get("yarn_original", 0), 0),
        sizing=sizing,
        fits=truths.get("fits", True) and ("split_mode" not in found or str(found["split_mode"][1]) != "tensor"),
    )


def _whole(name: str, option: str, value: Value) -> int:
    if name == "gpu_layers" and value in ("auto", "all"):
        return ALL
    try:
        number = int(str(value))
    except ValueError:
        raise PaddockError(f"{option}: {value} is not a whole number") from None
    if name == "context" and number < 0:
        raise PaddockError(f"{option}: {value} is not a number of tokens: llama-server would not start. 0 is the model's training context")
    if name == "slots" and (number == 0 or number > SLOTS_MOST):
        raise PaddockError(f"{option}: llama-server has no {value} slots, it would not start: use 1 to {SLOTS_MOST}, or -1 for its default")
    return number


def _decimal(option: str, value: Value) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise PaddockError(f"{option}: {value} is not a number") from None


def _batch(tokens: int) -> int:
    return tokens if tokens >= 0 else BATCH_MOST


def settled(shape: ModelShape, options: MemoryOptions) -> MemoryOptions:
    """The options as llama.cpp uses them for this model (src/llama-context.cpp: the constructor; server.cpp, server-context.cpp).

    The context is padded to 256. Where each slot has a cache of its own it is shared out, and what a slot has is padded again:

        unified        n_ctx = pad(n_ctx, 256), of which each slot may use all
        not unified    n_ctx = slots × pad(pad(n_ctx, 256) ÷ slots, 256)

    Where no context is given it is what the model was trained for; newer versions, with `fit`, give that to each slot that has a cache of
    its own (common/fit.cpp: common_params_fit_impl). Where there is no room for it, `fit` takes less, which is not known here.
    """
    context = asked_context(shape, options)
    batch = min(options.batch, options.ubatch) if options.embeds else options.batch
    batch = min(context, batch) if shape.causal else batch
    ubatch = min(batch, options.ubatch or batch)
    flash = (options.flash_attention or options.type_v not in ("f32", "f16", "bf16")) and shape.architecture != "grok"
    outputs = options.outputs if options.outputs is not None else ubatch if options.embeds else options.slots
    a_slot = padded(context) if options.unified else padded(padded(context) // options.slots)
    whole = a_slot if options.unified else a_slot * options.slots
    return replace(options, context=whole, batch=batch, ubatch=min(ubatch, whole), flash_attention=flash, outputs=min(outputs, ubatch))


def asked_context(shape: ModelShape, options: MemoryOptions) -> int:
    """Tokens of all slots together, before anything is padded."""
    if options.context or not (options.fits and options.sizing.fit_counts_slots):
        return options.context or shape.context_length
    return trained(shape, options) * (1 if options.unified else options.slots)


def padded(count: int) -> int:
    return -(-count // 256) * 256


def context_of(options: MemoryOptions) -> int:
    """Cells of the cache that each slot has, or that all have together. The options are `settled`."""
    return options.context if options.unified else options.context // options.slots


def trained(shape: ModelShape, options: MemoryOptions) -> int:
    """Tokens that llama.cpp takes the model to be trained for, 0 where the header does not say it.

    A newer llama.cpp counts what YaRN stretches it to (src/llama-context.cpp: llama_init_from_model); no other way of stretching counts.
    """
    scale = options.rope_scale or shape.rope_scaling_factor or 1
    is_yarn = (options.rope_scaling or shape.rope_scaling_type) == "yarn"
    if options.sizing.yarn_raises_limit and is_yarn and scale != (shape.rope_scaling_factor or 1):
        return int((options.yarn_original or shape.rope_scaling_original_context_length or shape.context_length) * scale)
    return shape.context_length


def slot_context(shape: ModelShape, options: MemoryOptions) -> int:
    """The most tokens that a slot gets: no more than its cache, than `kv-unified-per-slot`, and than the model was trained for.

    The options are `settled` (tools/server/server-context.cpp: n_ctx_slot).
    """
    return min(filter(None, (context_of(options), options.per_slot, trained(shape, options))), default=0)
