"""How much memory that takes which llama-server loads beside a model: its projector, its draft, adapters. An estimate.

Files named here are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from inventory.errors import PaddockError
from inventory.model_shape import ModelShape, at
from roles.llama_server.memory import Memory, needs
from roles.llama_server.memory_options import MemoryOptions, Value, memory_options, settled
from roles.llama_server.splitting import draft_split, projector_device, split_of
from roles.preset import is_on

DRAFTS = {
    **dict.fromkeys(("ctkd", "cache-type-k-draft", "spec-draft-type-k"), "cache-type-k"),
    **dict.fromkeys(("ctvd", "cache-type-v-draft", "spec-draft-type-v"), "cache-type-v"),
    **dict.fromkeys(("ngld", "gpu-layers-draft", "n-gpu-layers-draft", "spec-draft-ngl"), "n-gpu-layers"),
    **dict.fromkeys(("cmoed", "cpu-moe-draft", "spec-draft-cpu-moe"), "cpu-moe"),
    **dict.fromkeys(("ncmoed", "n-cpu-moe-draft", "spec-draft-ncmoe", "spec-draft-n-cpu-moe"), "n-cpu-moe"),
}
"""A draft model's own options, and what each is called of a model. Else it is served as the model is (common/speculative.cpp)."""

OF_THE_MODEL = ("ctk", "cache-type-k", "ctv", "cache-type-v", "ngl", "gpu-layers", "n-gpu-layers", "cmoe", "cpu-moe", "ncmoe", "n-cpu-moe")

Places = tuple[tuple[Memory, ...], Memory]
"""What lies on each card, and in host memory."""


def beside(
    files: Sequence[tuple[str, ModelShape]],
    shape: ModelShape,
    options: MemoryOptions,
    preset: Mapping[str, Value],
    names: Sequence[str] = (),
    shares: tuple[int, ...] = (),
) -> Places:
    """What `files` take, each by its key of the model, on cards that llama.cpp calls so, and that have these `shares`. Raises PaddockError
    for a value that llama-server does not take."""
    cards, host = [Memory()] * len(shares), Memory()
    for key, each in files:
        match key:
            case "draft":
                theirs, here = _draft(each, shape, options, preset, names, shares)
            case "mmproj":
                theirs, here = _on(None if _is_off(preset) else projector_device(preset, names), _projector(each, options), len(shares))
            case _:  # adapters lie beside what they change, and are small
                split = split_of(preset, names, shares)
                theirs, here = _on(next(iter(split.order), None), Memory(weights=each.tensor_bytes), len(shares))
        cards = [one + more for one, more in zip(cards, theirs, strict=True)]
        host += here
    return tuple(cards), host


def _on(card: int | None, memory: Memory, many: int) -> Places:
    """All of it on one of so many cards, None: in host memory."""
    return tuple(memory if number == card else Memory() for number in range(many)), memory if card is None else Memory()


def _is_off(preset: Mapping[str, Value]) -> bool:
    """Whether a projector computes on the processor."""
    return is_on(preset.get("no-mmproj-offload", False)) or not is_on(preset.get("mmproj-offload", True))


def _projector(shape: ModelShape, options: MemoryOptions) -> Memory:
    """Its weights, and for a picture about what a layer of it takes: of each patch the width of the feed-forward, and of the embedding."""
    patches = shape.context_length
    wide = 3 * at(shape.feed_forward_length, 0) + 7 * shape.embedding_length
    scores = 0 if options.flash_attention else 4 * at(shape.head_count, 0) * patches * patches
    return Memory(weights=shape.tensor_bytes, compute=4 * wide * patches + scores)


def _draft(
    shape: ModelShape,
    model: ModelShape,
    options: MemoryOptions,
    preset: Mapping[str, Value],
    names: Sequence[str],
    shares: tuple[int, ...],
) -> Places:
    """It has the model's context, slots and batches, a KV cache of its own, and one output for each slot."""
    own = {DRAFTS[option]: value for option, value in preset.items() if option in DRAFTS}
    served = {option: value for option, value in preset.items() if option not in OF_THE_MODEL}
    try:
        asked = memory_options({**served, **own}, options.sizing)
    except PaddockError as error:
        raise PaddockError(f"draft: {error}") from None
    asked = replace(asked, context=settled(model, options).context, embeds=False, outputs=asked.slots)
    found = needs(shape, asked, *draft_split(preset, names, shares))
    return found.cards, found.host
