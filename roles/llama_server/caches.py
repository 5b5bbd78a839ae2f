"""The KV cache of each layer of a model, and the states of recurrent layers: which architecture keeps what, and the bytes.

Read off llama.cpp's tree in llama-cpp-python 0.3.36; files named here are its.
"""

from __future__ import annotations

from dataclasses import dataclass

from inventory.model_shape import ModelShape, at
from roles.llama_server.memory_options import ROW_BYTES, MemoryOptions, context_of, padded

QUANTIZED_BLOCK = 32
UNQUANTIZED = ("f32", "f16", "bf16")

NO_CACHE = frozenset(
    {
        "bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "eurobert",
        "wavtokenizer-dec",
        "modern-bert",
        "gemma-embedding",
        "dream",
        "llada",
        "llada-moe",
        "rnd1",
    }
)
"""Architectures that keep nothing from one text to the next (llama-model.cpp: create_memory)."""

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Architectures of which each layer has a state instead of a cache (llama-arch.cpp: llm_arch_is_recurrent)."""

STATE_BY_HEADS = frozenset(
    {"jamba", "granitehybrid", "plamo2", "lfm2", "lfm2moe", "kimi-linear", "bailingmoe3", "nemotron_h", "nemotron_h_moe"}
)
"""Hybrids of which a layer without KV heads has a state (src/models: load_arch_hparams)."""

STATE_BY_INTERVAL = frozenset({"qwen3next", "qwen35", "qwen35moe", "minimax-01"})
"""Hybrids of which every Nth layer has a cache, and the others a state."""

BOTH = frozenset({"falcon-h1"})
"""Hybrids of which each layer has a state and a cache."""

LATENT = frozenset({"deepseek2", "kimi-linear", "bailingmoe3"})
"""Architectures that keep one latent key a token, and no value, where the header gives the sizes of what is made of it."""

UNUSUAL = frozenset(
    {
        "deepseek4",
        "deepseek32",
        "glm-dsa",
        "glm5-next",
        "hy-v4",
        "kimi-k3",
        "dots3note",
        "minimax-m3",
        "qwen4exp",
        "nanbeige",
        "hrm-text",
        "dflash",
        "eagle3",
        "gemma4-assistant",
        "granite-switch",
    }
)
"""Architectures with caches of their own kind, which are taken for plain attention here: `Needs.exact` is false."""


@dataclass(frozen=True)
class Sliding:
    """Which layers of an architecture see a window only: every `nth` sees all, 0 is as the header says for each layer."""

    nth: int
    window: int = 0
    """Where the header gives none; 0: then no layer slides."""
    dense_first: bool = False
    """The first of each `nth` layers sees all, not the last."""
    fixed: bool = False
    """The window is this one, whatever the header says beyond that there is one."""


SLIDING = {
    "afmoe": Sliding(4),
    "cohere2": Sliding(4),
    "cohere2moe": Sliding(4, dense_first=True),
    "exaone-moe": Sliding(4, 128),
    "exaone4": Sliding(4, 4096),
    "gemma2": Sliding(2, 4096),
    "gemma3": Sliding(6),
    "gemma3n": Sliding(5),
    "gemma4": Sliding(0),
    "gpt-oss": Sliding(2),
    "granite-swa": Sliding(0),
    "laguna": Sliding(4, dense_first=True),
    "lfm2": Sliding(0),
    "llama4": Sliding(4, 8192, fixed=True),
    "maple": Sliding(0),
    "mellum": Sliding(4),
    "mimo2": Sliding(0),
    "muse-glimmer": Sliding(4),
    "olmo2": Sliding(4),
    "plamo3": Sliding(8),
    "smallthinker": Sliding(4, dense_first=True, fixed=True, window=4096),
    "spark2.5": Sliding(0),
    "step35": Sliding(0),
}
"""src/models, load_arch_hparams; of an architecture that is not here a window in the header means nothing (phi3, mistral)."""


def has_output(shape: ModelShape) -> bool:
    """What only embeds has no output layer."""
    return shape.architecture not in NO_CACHE or shape.architecture in ("dream", "llada", "llada-moe", "rnd1")


def cache_bytes(shape: ModelShape, options: MemoryOptions) -> tuple[int, ...]:
    """The KV cache, or recurrent state, of each layer. The options are `settled`.

    A layer's cache (llama-kv-cache.cpp: the constructor) is, with B the bytes a number of ROW_BYTES:

        cells × streams × (heads_kv × key_length × B(type_k) + heads_kv × value_length × B(type_v))

    `streams` is 1 where the slots share one cache, else one a slot (n_stream); `cells` are what a stream's context has, padded to 256
    (kv_size, which llama-model.cpp: create_memory gives as n_ctx_seq). What caps a slot below that frees no cell. Of a layer with a
    sliding window (llama-kv-cache-iswa.cpp: size_swa) they are min(cells, window × (slots where shared) + ubatch), padded to 256, unless
    `swa-full`. Latent attention has one key a token, and no value. Without flash attention values lie transposed, as wide as the
    widest layer's. Layers beyond `shared_kv_layers` use another's. A recurrent layer has, for each slot, a state of f32
    (llama-memory-recurrent.cpp; llama-hparams.cpp: n_embd_r, n_embd_s).
    """
    if shape.architecture in NO_CACHE or not shape.block_count:
        return (0,) * shape.block_count
    return tuple(_layer_bytes(shape, options, layer) for layer in range(shape.layers))


def _layer_bytes(shape: ModelShape, options: MemoryOptions, layer: int) -> int:
    state = _has_state(shape, layer)
    total = 4 * options.slots * sum(_state(shape)) if state else 0
    if (state and shape.architecture not in BOTH) or layer >= _layers_with_cache(shape):
        return total
    if shape.architecture.startswith("nemotron_h") and at(shape.feed_forward_length, layer):
        return total
    sliding = slides(shape, layer)
    streams = 1 if options.unified else options.slots
    key, value = _widths(shape, layer, sliding)
    if not options.flash_attention and value:
        value = max(_widths(shape, each, slides(shape, each))[1] for each in range(shape.block_count))
    # The rows of the whole cache, not of one token: what is exact a row may not be a whole number of bytes.
    return total + int(cells(shape, options, sliding) * streams * (key * ROW_BYTES[options.type_k] + value * ROW_BYTES[options.type_v]))


def cells(shape: ModelShape, options: MemoryOptions, sliding: bool) -> int:
    """Of one stream of the cache of a layer, which slides or does not. The options are `settled`."""
    whole = context_of(options)
    if not sliding or options.window_full:
        return whole
    return padded(min(whole, window(shape) * (options.slots if options.unified else 1) + options.ubatch))


def _widths(shape: ModelShape, layer: int, sliding: bool) -> tuple[int, int]:
    """Numbers of a token's key and of its value, of all heads (llama-hparams.cpp: n_embd_k_gqa, n_embd_v_gqa)."""
    heads = at(shape.head_count_kv, layer)
    key, value = shape.key_length or _shared_out(shape), shape.value_length or _shared_out(shape)
    if sliding:
        key, value = shape.key_length_swa or key, shape.value_length_swa or value
    latent = shape.architecture in LATENT and shape.key_length_mla and shape.value_length_mla
    return heads * key, 0 if latent else heads * value


def _layers_with_cache(shape: ModelShape) -> int:
    if shape.architecture == "gemma3n":
        return 20
    return shape.block_count - shape.shared_kv_layers if shape.architecture == "gemma4" else shape.layers


def window(shape: ModelShape) -> int:
    """The sliding window, in tokens; 0 where no layer has one."""
    rule = SLIDING.get(shape.architecture)
    if rule is None or shape.sliding_window == 0 or (shape.architecture == "exaone4" and shape.layers != 64):
        return 0
    if rule.fixed:
        return rule.window if shape.architecture == "llama4" or shape.sliding_window else 0
    return shape.sliding_window or rule.window


def slides(shape: ModelShape, layer: int) -> bool:
    """Whether a layer sees only the window (llama-hparams.cpp: set_swa_pattern)."""
    if not window(shape):
        return False
    if isinstance(shape.sliding_window_pattern, tuple):
        return bool(shape.sliding_window_pattern[layer])
    rule = SLIDING[shape.architecture]
    if shape.architecture == "lfm2":
        return not _has_state(shape, layer)
    if layer >= shape.layers:
        return False
    nth = shape.sliding_window_pattern or rule.nth
    return nth == 0 or (layer % nth != 0 if rule.dense_first else layer % nth < nth - 1)


def _has_state(shape: ModelShape, layer: int) -> bool:
    if shape.architecture in RECURRENT or shape.architecture in BOTH:
        return True
    if shape.architecture in STATE_BY_HEADS:
        feed_forward = shape.architecture.startswith("nemotron_h") and at(shape.feed_forward_length, layer)
        return not at(shape.head_count_kv, layer) and not feed_forward
    if shape.architecture in STATE_BY_INTERVAL:
        if isinstance(shape.recurrent_layers, tuple):
            return bool(shape.recurrent_layers[layer])
        return layer < shape.layers and (layer + 1) % (shape.full_attention_interval or 4) != 0
    return False


def _state(shape: ModelShape) -> tuple[int, int]:
    """Numbers of a recurrent layer's short convolution and of its state, a slot."""
    heads = at(shape.head_count, 0)
    if shape.wkv_head_size:
        return (shape.token_shift_count or 2) * shape.embedding_length, shape.embedding_length * shape.wkv_head_size
    if shape.shortconv_l_cache:
        return shape.embedding_length * (shape.shortconv_l_cache - 1), shape.ssm_state_size * shape.ssm_inner_size
    if shape.kda_head_dim:
        before = shape.ssm_conv_kernel - 1 if shape.ssm_conv_kernel else 3
        return 3 * before * heads * shape.kda_head_dim, shape.kda_head_dim**2 * heads
    before = max(shape.ssm_conv_kernel - 1, 0)
    if shape.architecture == "minimax-01":
        return before * (shape.ssm_inner_size + 2 * shape.ssm_group_count * shape.ssm_state_size), shape.key_length**2 * heads
    return (
        before * (shape.ssm_inner_size + 2 * shape.ssm_group_count * shape.ssm_state_size),
        shape.ssm_state_size * shape.ssm_inner_size,
    )


def takes_type(shape: ModelShape, kind: str) -> bool:
    """Whether each head of the cache is made of whole blocks of the type."""
    return keys_take(shape, kind) and values_take(shape, kind)


def keys_take(shape: ModelShape, kind: str) -> bool:
    """Of the keys alone (llama-context.cpp: llama_init_from_model)."""
    return _is_whole(kind, (shape.key_length or _shared_out(shape), shape.key_length_swa))


def values_take(shape: ModelShape, kind: str) -> bool:
    """Of the values alone."""
    return _is_whole(kind, (shape.value_length or _shared_out(shape), shape.value_length_swa))


def _is_whole(kind: str, widths: tuple[int, ...]) -> bool:
    return kind in UNQUANTIZED or all(width % QUANTIZED_BLOCK == 0 for width in widths)


def _shared_out(shape: ModelShape) -> int:
    return shape.embedding_length // max(at(shape.head_count, 0), 1)
