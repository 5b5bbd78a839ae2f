"""What a version of llama.cpp makes of a model that is served with these options: refuses it, or gives it less than they ask for.

Files named here are llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from inventory.errors import PaddockError
from inventory.model_shape import ModelShape
from inventory.options import Options
from roles.llama_server.beside import beside
from roles.llama_server.caches import QUANTIZED_BLOCK, UNQUANTIZED, UNUSUAL, keys_take, values_take
from roles.llama_server.fit import Load
from roles.llama_server.memory_options import context_of, settled, slot_context, trained
from roles.llama_server.splitting import split_of

UNKNOWN = "memory unknown: not checked"

PADDING = 256
"""Cells, see `settled`."""

REPACKED = re.compile(r"(\w+?)_\d_\d")
"""`Q4_0_4_4`: Q4_0 as some processors want it, which llama.cpp makes of it itself by now."""


def faults(load: Load) -> Iterator[str]:
    """Why llama-server would not start the model, a line each (src/llama-context.cpp: llama_init_from_model)."""
    try:
        options = load.options
        beside(load.beside, load.shape, options, load.preset)
        split_of(load.preset, (), ())
    except PaddockError as error:
        yield f"{load.where}: {load.model}: {error}"
        return
    where, has_flash = f"{load.where}: {load.model}", options.flash_attention and load.shape.architecture != "grok"
    for option, kind, takes in (("cache-type-k", options.type_k, keys_take), ("cache-type-v", options.type_v, values_take)):
        if has_flash and not takes(load.shape, kind):
            words = f"a head of the model is no multiple of its blocks of {QUANTIZED_BLOCK} numbers: use f16"
            yield f"{where}: {option}: its KV cache cannot be {kind}: {words}"
    if options.type_v not in UNQUANTIZED and not has_flash:
        words = "a quantized cache of values needs flash attention: " + (
            "use f16" if options.flash_attention else "leave `flash-attn` on, or use f16"
        )
        yield f"{where}: cache-type-v: {options.type_v}: {words}"
    shares = (load.shape.key_length_mla and load.shape.value_length_mla) or load.shape.architecture == "deepseek4"
    if shares and options.type_k != options.type_v:
        words = "this model's keys and values share one cache: give both the same type"
        yield f"{where}: cache-type-k is {options.type_k} and cache-type-v is {options.type_v}: {words}"


def unloadable(where: str, shape: ModelShape, options: Options) -> Iterator[str]:
    """The types of tensors of what stands there in the inventory that this version does not load, a line each; none where its types are not
    known.

    ggml refuses a number that its table does not have, and one whose type was removed (ggml/src/gguf.cpp: gguf_init_from_reader).
    """
    for number, name, tensor, file in shape.tensor_types if options.tensor_types else ():
        known = options.tensor_type.get(number)
        if known and not known.removed:
            continue
        called = f" ({known.name if known else name})" if known or name else ""
        which = f"{where}: llama.cpp {options.label} cannot load {file}: its tensor {tensor} is of type {number}{called}"
        if known:
            plain = REPACKED.fullmatch(known.name)
            instead = f"{plain[1]}, which llama.cpp repacks itself" if plain else "another quantization"
            yield f"{which}, which was removed from llama.cpp: use {instead}"
        else:
            yield f"{which}, which it does not know: use another quantization, or a llama.cpp that has this type"


def remarks_on(load: Load) -> Iterator[str]:
    """What takes memory that nobody has computed, and the context that the options ask for and no slot gets, a line each.

    llama-server starts all the same: it caps each slot, and warns (tools/server/server-context.cpp: n_ctx_slot). It pads a context to 256
    cells, so less than those beyond the limit is nobody's mistake.
    """
    yield from _uncounted(load)
    options = settled(load.shape, load.options)
    cells, slot, limit = context_of(options), slot_context(load.shape, options), trained(load.shape, options)
    used = slot * (options.slots if options.unified else 1)
    is_wasted = cells >= used + PADDING
    if cells < slot + PADDING or (slot == options.per_slot and not is_wasted):
        return
    option = "ctx-size" if load.preset.keys() & {"c", "ctx-size"} else "kv-unified-per-slot"
    why = "it was trained for" if slot == limit else "`kv-unified-per-slot` allows"
    shared = options.unified and options.slots > 1
    asked = f"{cells} tokens, which its {options.slots} slots share" if shared else f"{cells} tokens a slot"
    words = f"{option} gives {load.model} {asked}: each slot gets the {slot} that {why}"
    if is_wasted:
        best = slot if option == "kv-unified-per-slot" else slot * options.slots
        words += f", and the memory of the rest is taken for nothing: {best} is enough"
    if slot == limit and any(key.startswith(("rope-", "yarn-")) for key in load.preset):
        key = f"{load.shape.architecture or 'ARCHITECTURE'}.context_length"
        words += f". How positions are stretched does not raise that here: `override-kv: {key}=int:{cells}` does"
    yield f"{load.where}: {words}"


BESIDE = frozenset(
    (
        *("mmproj", "mm", "mmproj-url", "mmu", "lora", "lora-scaled", "control-vector", "control-vector-scaled"),
        *("spec-type", "spec-draft-model", "md", "model-draft", "spec-draft-hf", "hfd", "hfrd", "hf-repo-draft"),
    )
)
"""Options that load something beside the model."""


def _uncounted(load: Load) -> Iterator[str]:
    """What takes memory that nobody has computed."""
    for option in sorted((load.preset.keys() & BESIDE) - load.named):
        if load.preset[option] != "none":
            yield f"{load.where}: {option}: {UNKNOWN}: what {load.model} takes for this is not counted: leave room for it"
    for option in sorted(load.preset.keys() & {"cache-ram", "cram"}):
        if str(load.preset[option]).startswith("-"):
            yield f"{load.where}: {option}: {UNKNOWN}: {load.model}'s cache of prompts has no limit: give it one, in MiB"
    if load.shape.architecture in UNUSUAL:
        kind = f"{load.shape.architecture} has a KV cache of its own kind"
        yield f"{load.where}: {load.model}: {UNKNOWN}: {kind}: what is computed for it is a guess"
