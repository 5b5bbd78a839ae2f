"""Tiny files for options of llama-server, of random weights that fit the tiny model: a projector that it sees with, an adapter."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from pathlib import Path

import numpy
from gguf import GGUFWriter

from control.models.tiny_model import ANSWER, EMBEDDING, FEED_FORWARD

PATCH, SIDE = 14, 28
"""Pixels of a patch and of a picture, along an edge."""

VOCABULARY = 3 + 256 + 1 + len(ANSWER)


def projector(path: Path) -> Path:
    """As LLaVA has it (tools/mtmd/models/llava.cpp): two layers, of which it computes the first, and a projection."""
    random = numpy.random.RandomState(36)

    def noise(*shape: int) -> numpy.ndarray:
        return (0.02 * random.standard_normal(shape)).astype(numpy.float32)

    writer = GGUFWriter(path, "clip")
    for name in ("has_vision_encoder", "has_llava_projector", "use_gelu"):
        writer.add_bool(f"clip.{name}", True)
    writer.add_string("clip.projector_type", "mlp")
    sizes = {"image_size": SIDE, "patch_size": PATCH, "embedding_length": EMBEDDING, "feed_forward_length": FEED_FORWARD}
    for name, value in {**sizes, "block_count": 2, "projection_dim": EMBEDDING, "attention.head_count": 1}.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    writer.add_tensor("v.patch_embd.weight", noise(EMBEDDING, 3, PATCH, PATCH))
    writer.add_tensor("v.position_embd.weight", noise((SIDE // PATCH) ** 2, EMBEDDING))
    for layer in range(2):
        for name, shape in {
            **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (EMBEDDING, EMBEDDING)),
            "ffn_up": (FEED_FORWARD, EMBEDDING),
            "ffn_down": (EMBEDDING, FEED_FORWARD),
        }.items():
            writer.add_tensor(f"v.blk.{layer}.{name}.weight", noise(*shape))
            writer.add_tensor(f"v.blk.{layer}.{name}.bias", noise(shape[0]))
        for name in ("ln1", "ln2"):
            writer.add_tensor(f"v.blk.{layer}.{name}.weight", numpy.ones(EMBEDDING, numpy.float32))
            writer.add_tensor(f"v.blk.{layer}.{name}.bias", noise(EMBEDDING))
    for at in (0, 2):
        writer.add_tensor(f"mm.{at}.weight", noise(EMBEDDING, EMBEDDING))
        writer.add_tensor(f"mm.{at}.bias", noise(EMBEDDING))
    return _written(writer, path)


def adapter(path: Path, word: str = "▁host") -> Path:
    """A LoRA with which the tiny model's answer begins at another of its words, if it is applied with a scale of 1."""
    reads, adds = numpy.zeros((1, EMBEDDING), numpy.float32), numpy.zeros((VOCABULARY, 1), numpy.float32)
    reads[0, 0] = 1  # every token but the answer's words points there
    adds[VOCABULARY - len(ANSWER) + ANSWER.index(word), 0] = 16
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("output.weight.lora_a", reads)
    writer.add_tensor("output.weight.lora_b", adds)
    return _written(writer, path)


def picture() -> str:
    """A grey square, as a data URL of a PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x80\x80\x80" * SIDE for _ in range(SIDE)))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _written(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
