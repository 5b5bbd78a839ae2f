"""Models of real shape and size that take no room: header and list of tensors are written, the weights are a hole in the file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter

Tensor = tuple[str, tuple[int, ...], Type]
"""Name without the `.weight` that most end with, dimensions as llama.cpp prints them, and type."""


@dataclass(frozen=True)
class SparseModel:
    architecture: str
    keys: Mapping[str, int | float | list[int] | list[bool]]
    """Of the header, without the architecture in front."""
    vocabulary: int
    tensors: tuple[Tensor, ...]


def write(path: Path, model: SparseModel, shard: tuple[int, int] = (0, 1)) -> Path:
    """Writes the model to `path`; the file is as large as the real one, and takes some KiB. `shard` is which of how many it is, from 0."""
    writer = GGUFWriter(path, model.architecture)
    if shard[1] > 1:
        writer.add_uint16("split.no", shard[0])
        writer.add_uint16("split.count", shard[1])
    for key, value in {**model.keys, "vocab_size": model.vocabulary}.items():
        name = f"{model.architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    writer.add_tokenizer_model("no_vocab")
    writer.add_token_type_count(2)
    end = 0
    for name, shape, kind in model.tensors:
        full = name if name.endswith((".bias", ".ssm_a", ".ssm_d")) else f"{name}.weight"
        size = bytes_of(shape, kind)
        writer.add_tensor_info(full, tuple(reversed(shape)), numpy.dtype(numpy.float32), size, raw_dtype=kind)
        end += -(-size // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout
    writer.write_padding(writer.fout[0], writer.fout[0].tell())
    writer.fout[0].truncate(writer.fout[0].tell() + end)
    writer.close()
    return path


def retyped(path: Path, tensor: str, kind: int) -> Path:
    """The file, with another number as the type of one of its tensors."""
    with path.open("r+b") as file:
        front = file.read(1 << 20)
        start = front.index(struct.pack("<Q", len(tensor)) + tensor.encode()) + 8 + len(tensor)
        (dimensions,) = struct.unpack_from("<I", front, start)
        file.seek(start + 4 + 8 * dimensions)
        file.write(struct.pack("<I", kind))
    return path


def header(path: Path) -> bytes:
    """What of a written file is not the hole."""
    with path.open("rb") as file:
        length = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        file.seek(0)
        return file.read(length)


def shortened(model: SparseModel, layers: int) -> SparseModel:
    """The model's first layers, with a vocabulary of 512: small enough to be served in a test."""

    def kept(name: str) -> bool:
        return not name.startswith("blk.") or int(name.split(".")[1]) < layers

    tensors = tuple(
        (name, (shape[0], 512) if name in ("token_embd", "output") else shape, kind) for name, shape, kind in model.tensors if kept(name)
    )
    # llama.cpp tells DeepSeek's small variants by the number of their layers, and wants this of all others.
    more = {"attention.q_lora_rank": 0} if model.architecture == "deepseek2" else {}
    return replace(model, keys={**model.keys, **more, "block_count": layers}, vocabulary=512, tensors=tensors)


def bytes_of(shape: tuple[int, ...], kind: Type) -> int:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    count = 1
    for each in shape:
        count *= each
    return count // block * size


def llama_8b() -> SparseModel:
    """Llama 3.1 8B Instruct, Q5_K_M."""
    embedding, kv, hidden, layers, vocabulary = 4096, 1024, 14336, 32, 128256

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q5_K
        yield "output_norm", (embedding,), Type.F32
        yield "output", (embedding, vocabulary), Type.Q6_K
        yield "rope_freqs", (64,), Type.F32
        for layer in range(layers):
            # llama-quantize gives these two more bits in an eighth of the layers at each end, and in every third between
            more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
            at = f"blk.{layer}"
            yield f"{at}.attn_norm", (embedding,), Type.F32
            yield f"{at}.attn_q", (embedding, embedding), Type.Q5_K
            yield f"{at}.attn_k", (embedding, kv), Type.Q5_K
            yield f"{at}.attn_v", (embedding, kv), Type.Q6_K if more else Type.Q5_K
            yield f"{at}.attn_output", (embedding, embedding), Type.Q5_K
            yield f"{at}.ffn_norm", (embedding,), Type.F32
            yield f"{at}.ffn_gate", (embedding, hidden), Type.Q5_K
            yield f"{at}.ffn_up", (embedding, hidden), Type.Q5_K
            yield f"{at}.ffn_down", (hidden, embedding), Type.Q6_K if more else Type.Q5_K

    keys = {
        "context_length": 131072,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": hidden,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": 128,
        "rope.freq_base": 500000.0,
    }
    return SparseModel("llama", keys, vocabulary, tuple(tensors()))


def qwen3_30b_a3b() -> SparseModel:
    """Qwen3 30B-A3B, Q4_K with some of Q6_K: a mixture of 128 experts."""
    embedding, kv, hidden, layers, vocabulary, experts = 2048, 512, 768, 48, 151936, 128

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q4_K
        yield "output_norm", (embedding,), Type.F32
        yield "output", (embedding, vocabulary), Type.Q6_K
        for layer in range(layers):
            at = f"blk.{layer}"
            yield f"{at}.attn_norm", (embedding,), Type.F32
            yield f"{at}.attn_q", (embedding, 4096), Type.Q4_K
            yield f"{at}.attn_k", (embedding, kv), Type.Q4_K
            yield f"{at}.attn_v", (embedding, kv), Type.Q6_K
            yield f"{at}.attn_output", (4096, embedding), Type.Q4_K
            yield f"{at}.attn_k_norm", (128,), Type.F32
            yield f"{at}.attn_q_norm", (128,), Type.F32
            yield f"{at}.ffn_norm", (embedding,), Type.F32
            yield f"{at}.ffn_gate_inp", (embedding, experts), Type.F32
            yield f"{at}.ffn_gate_exps", (embedding, hidden, experts), Type.Q4_K
            yield f"{at}.ffn_up_exps", (embedding, hidden, experts), Type.Q4_K
            yield f"{at}.ffn_down_exps", (hidden, embedding, experts), Type.Q6_K

    keys = {
        "context_length": 40960,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": 6144,
        "expert_feed_forward_length": hidden,
        "expert_count": experts,
        "expert_used_count": 8,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    return SparseModel("qwen3moe", keys, vocabulary, tuple(tensors()))


def gpt_oss_20b() -> SparseModel:
    """gpt-oss 20B, MXFP4: every other layer sees a window of 128 tokens, and 32 experts."""
    embedding, hidden, layers, vocabulary, experts = 2880, 2880, 24, 201088, 32

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q8_0
        yield "output_norm", (embedding,), Type.F32
        yield "output", (embedding, vocabulary), Type.Q8_0
        for layer in range(layers):
            at = f"blk.{layer}"
            yield f"{at}.attn_norm", (embedding,), Type.F32
            yield f"{at}.post_attention_norm", (embedding,), Type.F32
            for name, width in (("attn_q", 4096), ("attn_k", 512), ("attn_v", 512)):
                yield f"{at}.{name}", (embedding, width), Type.Q8_0
                yield f"{at}.{name}.bias", (width,), Type.F32
            yield f"{at}.attn_output", (4096, embedding), Type.Q8_0
            yield f"{at}.attn_output.bias", (embedding,), Type.F32
            yield f"{at}.attn_sinks", (64,), Type.F32
            yield f"{at}.ffn_gate_inp", (embedding, experts), Type.F32
            yield f"{at}.ffn_gate_inp.bias", (experts,), Type.F32
            for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"):
                yield f"{at}.{name}", (embedding, hidden, experts), Type.MXFP4
                yield f"{at}.{name}.bias", (embedding, experts), Type.F32

    keys = {
        "context_length": 131072,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": hidden,
        "expert_feed_forward_length": hidden,
        "expert_count": experts,
        "expert_used_count": 4,
        "attention.head_count": 64,
        "attention.head_count_kv": 8,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.sliding_window": 128,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    return SparseModel("gpt-oss", keys, vocabulary, tuple(tensors()))


def gemma3_4b() -> SparseModel:
    """Gemma 3 4B, Q4_0: five of six layers see a window of 1024 tokens, and the embedding is the output layer too."""
    embedding, hidden, layers, vocabulary = 2560, 10240, 34, 262144

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q6_K
        yield "output_norm", (embedding,), Type.F32
        for layer in range(layers):
            at = f"blk.{layer}"
            for norm, width in (("attn_norm", embedding), ("post_attention_norm", embedding), ("attn_k_norm", 256), ("attn_q_norm", 256)):
                yield f"{at}.{norm}", (width,), Type.F32
            yield f"{at}.attn_q", (embedding, 2048), Type.Q4_0
            yield f"{at}.attn_k", (embedding, 1024), Type.Q4_0
            yield f"{at}.attn_v", (embedding, 1024), Type.Q4_0
            yield f"{at}.attn_output", (2048, embedding), Type.Q4_0
            yield f"{at}.ffn_norm", (embedding,), Type.F32
            yield f"{at}.ffn_gate", (embedding, hidden), Type.Q4_0
            yield f"{at}.ffn_up", (embedding, hidden), Type.Q4_0
            yield f"{at}.ffn_down", (hidden, embedding), Type.Q4_0
            yield f"{at}.post_ffw_norm", (embedding,), Type.F32

    keys = {
        "context_length": 131072,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": hidden,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.sliding_window": 1024,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    return SparseModel("gemma3", keys, vocabulary, tuple(tensors()))


def deepseek_v2_lite() -> SparseModel:
    """DeepSeek V2 Lite, Q4_K: latent attention, one key of 576 a layer and no value, and 64 experts."""
    embedding, layers, vocabulary, experts, hidden, heads = 2048, 27, 102400, 64, 1408, 16

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q4_K
        yield "output_norm", (embedding,), Type.F32
        yield "output", (embedding, vocabulary), Type.Q6_K
        for layer in range(layers):
            at = f"blk.{layer}"
            yield f"{at}.attn_norm", (embedding,), Type.F32
            yield f"{at}.attn_kv_a_norm", (512,), Type.F32
            yield f"{at}.attn_q", (embedding, heads * 192), Type.Q4_K
            yield f"{at}.attn_kv_a_mqa", (embedding, 576), Type.Q4_K
            yield f"{at}.attn_k_b", (128, 512, heads), Type.Q5_0
            yield f"{at}.attn_v_b", (512, 128, heads), Type.Q4_K
            yield f"{at}.attn_output", (heads * 128, embedding), Type.Q4_K
            yield f"{at}.ffn_norm", (embedding,), Type.F32
            if layer == 0:
                yield f"{at}.ffn_gate", (embedding, 10944), Type.Q4_K
                yield f"{at}.ffn_up", (embedding, 10944), Type.Q4_K
                yield f"{at}.ffn_down", (10944, embedding), Type.Q5_0
            else:
                yield f"{at}.ffn_gate_inp", (embedding, experts), Type.F32
                yield f"{at}.ffn_gate_exps", (embedding, hidden, experts), Type.Q4_K
                yield f"{at}.ffn_up_exps", (embedding, hidden, experts), Type.Q4_K
                yield f"{at}.ffn_down_exps", (hidden, embedding, experts), Type.Q5_0
                yield f"{at}.ffn_gate_shexp", (embedding, 2 * hidden), Type.Q4_K
                yield f"{at}.ffn_up_shexp", (embedding, 2 * hidden), Type.Q4_K
                yield f"{at}.ffn_down_shexp", (2 * hidden, embedding), Type.Q4_K

    keys = {
        "context_length": 163840,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": 10944,
        "expert_feed_forward_length": hidden,
        "leading_dense_block_count": 1,
        "expert_count": experts,
        "expert_used_count": 6,
        "expert_shared_count": 2,
        "attention.head_count": heads,
        "attention.head_count_kv": 1,
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "attention.kv_lora_rank": 512,
        "rope.dimension_count": 64,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    return SparseModel("deepseek2", keys, vocabulary, tuple(tensors()))


def qwen35_35b_a3b() -> SparseModel:
    """Qwen3.5 35B-A3B, Q4_K: of four layers three keep a state instead of a cache, and 256 experts."""
    embedding, hidden, layers, vocabulary, experts = 2048, 512, 40, 248320, 256

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q4_K
        yield "output_norm", (embedding,), Type.F32
        yield "output", (embedding, vocabulary), Type.Q6_K
        for layer in range(layers):
            at = f"blk.{layer}"
            yield f"{at}.attn_norm", (embedding,), Type.F32
            yield f"{at}.post_attention_norm", (embedding,), Type.F32
            if layer % 4 == 3:
                yield f"{at}.attn_q", (embedding, 8192), Type.Q4_K
                yield f"{at}.attn_k", (embedding, 512), Type.Q4_K
                yield f"{at}.attn_v", (embedding, 512), Type.Q6_K
                yield f"{at}.attn_output", (4096, embedding), Type.Q4_K
                yield f"{at}.attn_q_norm", (256,), Type.F32
                yield f"{at}.attn_k_norm", (256,), Type.F32
            else:
                yield f"{at}.attn_qkv", (embedding, 8192), Type.Q4_K
                yield f"{at}.attn_gate", (embedding, 4096), Type.Q4_K
                yield f"{at}.ssm_conv1d", (4, 8192), Type.F32
                yield f"{at}.ssm_dt.bias", (32,), Type.F32
                yield f"{at}.ssm_a", (32,), Type.F32
                yield f"{at}.ssm_beta", (embedding, 32), Type.F32
                yield f"{at}.ssm_alpha", (embedding, 32), Type.F32
                yield f"{at}.ssm_norm", (128,), Type.F32
                yield f"{at}.ssm_out", (4096, embedding), Type.Q4_K
            yield f"{at}.ffn_gate_inp", (embedding, experts), Type.F32
            yield f"{at}.ffn_gate_exps", (embedding, hidden, experts), Type.Q4_K
            yield f"{at}.ffn_up_exps", (embedding, hidden, experts), Type.Q4_K
            yield f"{at}.ffn_down_exps", (hidden, embedding, experts), Type.Q6_K
            yield f"{at}.ffn_gate_inp_shexp", (embedding,), Type.F32
            yield f"{at}.ffn_gate_shexp", (embedding, hidden), Type.Q4_K
            yield f"{at}.ffn_up_shexp", (embedding, hidden), Type.Q4_K
            yield f"{at}.ffn_down_shexp", (hidden, embedding), Type.Q6_K

    keys: dict[str, int | float | list[int] | list[bool]] = {
        "context_length": 262144,
        "embedding_length": embedding,
        "block_count": layers,
        "expert_feed_forward_length": hidden,
        "expert_shared_feed_forward_length": hidden,
        "expert_count": experts,
        "expert_used_count": 8,
        "attention.head_count": 16,
        "attention.head_count_kv": 2,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "full_attention_interval": 4,
        "rope.dimension_count": 64,
        "rope.dimension_sections": [11, 11, 10, 0],
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 4096,
        "ssm.state_size": 128,
        "ssm.time_step_rank": 32,
        "ssm.group_count": 16,
    }
    return SparseModel("qwen35moe", keys, vocabulary, tuple(tensors()))


def nomic_embed_text() -> SparseModel:
    """nomic-embed-text v1.5, Q8_0: it embeds, and keeps no conversation."""
    embedding, hidden, layers, vocabulary = 768, 3072, 12, 30522

    def tensors() -> Iterator[Tensor]:
        yield "token_embd", (embedding, vocabulary), Type.Q8_0
        yield "token_types", (embedding, 2), Type.F32
        yield "token_embd_norm", (embedding,), Type.F32
        yield "token_embd_norm.bias", (embedding,), Type.F32
        for layer in range(layers):
            at = f"blk.{layer}"
            yield f"{at}.attn_qkv", (embedding, 3 * embedding), Type.Q8_0
            yield f"{at}.attn_output", (embedding, embedding), Type.Q8_0
            for norm in ("attn_output_norm", "layer_output_norm"):
                yield f"{at}.{norm}", (embedding,), Type.F32
                yield f"{at}.{norm}.bias", (embedding,), Type.F32
            yield f"{at}.ffn_up", (embedding, hidden), Type.Q8_0
            yield f"{at}.ffn_gate", (embedding, hidden), Type.Q8_0
            yield f"{at}.ffn_down", (hidden, embedding), Type.Q8_0

    keys = {
        "context_length": 2048,
        "embedding_length": embedding,
        "block_count": layers,
        "feed_forward_length": hidden,
        "attention.head_count": 12,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
        "pooling_type": 1,
        "rope.freq_base": 1000.0,
    }
    return SparseModel("nomic-bert", keys, vocabulary, tuple(tensors()))


BUILDERS = (llama_8b, qwen3_30b_a3b, qwen35_35b_a3b, gpt_oss_20b, gemma3_4b, deepseek_v2_lite, nomic_embed_text)
MODELS = {each.__name__: each for each in BUILDERS}
"""The builders, by name."""
