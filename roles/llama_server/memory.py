"""How much memory a model takes, from its shape and from the options that it is served with. Pure: nothing is asked of a host.

The formulas are llama.cpp's own, as of the tree in llama-cpp-python 0.3.36; files named here are its. tests/serving/test_fit.py holds them
against llama-fit-params. Weights and KV cache are exact, the compute buffers an estimate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from inventory.model_shape import ModelShape, at
from roles.llama_server.caches import NO_CACHE, RECURRENT, UNUSUAL, cache_bytes, cells, has_output, window
from roles.llama_server.memory_options import MemoryOptions, context_of, settled, slot_context
from roles.llama_server.splitting import moved_weights

MIB = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Bytes in one place. `other` is what no buffer of llama.cpp shows: the driver's context, the process, the cache of prompts."""

    weights: int = 0
    kv: int = 0
    compute: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute + self.other

    def __add__(self, more: Memory) -> Memory:
        return Memory(self.weights + more.weights, self.kv + more.kv, self.compute + more.compute, self.other + more.other)


@dataclass(frozen=True)
class MemoryNeeds:
    """What a model takes on each of its cards and in host memory."""

    cards: tuple[Memory, ...]
    host: Memory
    context: int
    """The most tokens that a slot gets."""
    exact: bool = True
    """Whether the KV cache is; not of an architecture that keeps something of its own kind."""


def needs(
    shape: ModelShape,
    options: MemoryOptions,
    shares: Sequence[float] = (),
    order: Sequence[int] = (),
    moved: Sequence[tuple[str, int | None]] = (),
) -> MemoryNeeds:
    """What a model takes where it is served with these options on cards that have these shares of it (of one card: `[1]`; of none: `[]`).

    Layers go to the cards, in the `order` of their numbers, as llama-model.cpp: load_tensors gives them, and their caches with them. Of
    their weights those go elsewhere that `moved` says, see splitting.py.
    """
    options = settled(shape, options)
    placed, caches = _placed(shape, options, shares, order or range(len(shares))), cache_bytes(shape, options)
    found = {where: Memory(compute=compute_bytes(shape, options)) for where in placed}
    # Beside cards the host's buffers hold what goes in: the masks, and the embeddings that it looked up.
    found.setdefault(None, Memory(compute=_masks(shape, options) + 4 * shape.embedding_length * options.ubatch))
    found[None] += Memory(weights=shape.input_bytes)
    for layer, (where, cache) in enumerate(zip(placed, caches, strict=False)):
        experts = at(shape.expert_bytes, layer) if layer < options.cpu_experts else 0
        cache_with = where if options.cache_on_card else None
        found[where] += Memory(weights=at(shape.layer_bytes, layer) - experts)
        found[None] += Memory(weights=experts)
        for size, there in moved_weights(shape, layer, moved) if moved and not experts else ():
            found[where] += Memory(weights=-size)
            found[there] = found.get(there, Memory()) + Memory(weights=size)
        found[cache_with] += Memory(kv=cache)
    if options.cpu_experts and any(shape.expert_bytes if isinstance(shape.expert_bytes, tuple) else (shape.expert_bytes,)):
        for card in [each for each in found if each is not None and shares[each]]:
            found[card] += Memory(other=int(options.expert_cache_mib * MIB * shares[card] / sum(shares)))
    # On a card the embedding that is the output layer too lies once more; in host memory it is the same.
    twice = shape.tied_bytes if placed[-1] is not None and has_output(shape) else 0
    found[placed[-1]] += Memory(weights=shape.output_bytes + twice)
    cards = tuple(found.get(number, Memory()) for number in range(len(shares)))
    return MemoryNeeds(cards, found[None], slot_context(shape, options), exact=shape.architecture not in UNUSUAL)


def _placed(shape: ModelShape, options: MemoryOptions, shares: Sequence[float], order: Sequence[int]) -> list[int | None]:
    """The card of each layer, and last that of the output; None is host memory."""
    everything, used = shape.block_count + 1, [card for card in order if shares[card]]
    on_cards = min(options.gpu_layers, everything) if used else 0
    first = max(everything - options.gpu_layers, 0)
    ends = [end / sum(shares) for end in accumulate(shares[card] for card in used)]
    return [
        None if layer < first or not on_cards else used[min(bisect_right(ends, (layer - first) / on_cards), len(used) - 1)]
        for layer in range(everything)
    ]


def compute_bytes(shape: ModelShape, options: MemoryOptions) -> int:
    """About what the buffers of a computation take: the largest of its steps, for one batch. The options are `settled`.

    There is no formula: ggml's allocator packs a whole graph. What decides it, with E an embedding of each token of a batch in f32:

        a layer    the masks + 4 E + three times the feed-forward's width (or the experts' of each token, or their outputs twice)
        attention  the masks + 6 E + the scores of each head and cell, where it is not flash attention
        output     2 E of the tokens that have one + a score for each word of the vocabulary

    Against llama-fit-params on the models of tests/unit/sparse_model.py, at 64 to 2048 tokens a batch, it is within 20 % of this part.
    """
    tokens, masks = options.ubatch, _masks(shape, options)
    embedding = 4 * shape.embedding_length * tokens
    widest = 3 * max((at(shape.feed_forward_length, layer) for layer in range(shape.layers)), default=0)
    if shape.expert_count:
        used = max(at(shape.expert_used_count, layer) for layer in range(shape.layers))
        expert = max(at(shape.expert_feed_forward_length, layer) for layer in range(shape.layers))
        leading = widest if isinstance(shape.expert_bytes, tuple) and 0 in shape.expert_bytes else 0
        widest = max(leading, used * max(3 * expert, 2 * shape.embedding_length)) + 3 * shape.expert_shared_feed_forward_length
    wide = widest + 2 * shape.embedding_length_per_layer_input * shape.layers
    if shape.ssm_inner_size or shape.kda_head_dim or shape.wkv_head_size:
        wide = max(wide, 8 * max(shape.ssm_inner_size, shape.embedding_length))
    steps = [masks + 4 * embedding + 4 * wide * tokens]
    if not options.flash_attention:
        heads = max((at(shape.head_count, layer) for layer in range(shape.layers)), default=0)
        steps.append(masks + 6 * embedding + 4 * heads * tokens * _attended(shape, options))
    if has_output(shape):
        steps.append(4 * (options.outputs or 0) * (shape.vocabulary + 2 * shape.embedding_length))
    return max(steps)


def _attended(shape: ModelShape, options: MemoryOptions) -> int:
    """Cells that a token may look at."""
    return options.ubatch if shape.architecture in NO_CACHE else context_of(options)


def _masks(shape: ModelShape, options: MemoryOptions) -> int:
    """Who may look at whom, a number for each token and cell, and for those of the sliding window once more."""
    if shape.architecture in RECURRENT or not shape.block_count:
        return 0
    seen = _attended(shape, options)
    if shape.architecture not in NO_CACHE and window(shape):
        seen += cells(shape, options, sliding=True)
    return seen * options.ubatch * (2 if options.flash_attention else 4)
