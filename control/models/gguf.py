"""What a GGUF's header says of a model: read from a file, or from a server without fetching the weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. gguf-py reads only whole files that it maps; this reads from the
front, as far as the header goes, and believes nothing that it finds there.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from control.fetching.download import without_password
from control.fetching.session import Session
from control.models.gguf_front import FIRST_BYTES, NAME_SHOWN, FileFront, Front, UrlFront, shown, wrong
from control.models.gguf_tensors import read_tensors, type_name
from control.state.fleet import in_words
from inventory import bounds
from inventory.model_shape import ModelShape, PerLayer, TensorTypes

KEYS_MOST, ITEMS_MOST, LAYERS_MOST, SHARDS_MOST = 1 << 16, 4096, 512, 1024
TENSORS_MOST = bounds.GGUF_HEADER.items
ALL_PARTS_S = 3600
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

INPUT = ("token_embd.weight", "token_types.weight", "position_embd.weight", "per_layer_token_embd.weight")
"""The tensors that llama.cpp never puts on a card (llama-arch.cpp: LLM_TENSOR_LAYER_INPUT)."""
EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch)?exps\.")
"""What `--cpu-moe` keeps in host memory (common/common.h: LLM_FFN_EXPS_REGEX)."""


MAGIC = b"GGUF"


def is_gguf(path: Path) -> bool:
    with in_words(path, "cannot be read"), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def local_shape(path: Path) -> ModelShape:
    """The shape of the model in a file, and in its other shards beside it. Raises PaddockError where that is no whole GGUF."""
    return shape_of(str(path), lambda name: FileFront(Path(name)))


def remote_shape(url: str, *, token: str = "") -> ModelShape:
    """The shape of the model behind a URL, and behind those of its other shards, of which only the headers are fetched.

    `token` is sent as a bearer's, as Hugging Face wants it. Raises PaddockError where there is no GGUF, or nobody answers.
    """
    header = bounds.GGUF_HEADER
    with Session(replace(header, size=header.size + bounds.MIB)) as connection:  # who knows no ranges sends on behind it
        return shape_of(url, lambda name: UrlFront(name, token, connection))


@dataclass
class _Header:
    """What one file says: numbers and short texts by key, how long each array is, and the size of every tensor."""

    keys: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    types: dict[int, tuple[int, str, str, str]] = field(default_factory=dict)
    """As ModelShape has them, by their number."""

    @property
    def tensor_types(self) -> TensorTypes:
        return tuple(self.types[number] for number in sorted(self.types))


def shape_of(name: str, opened: Callable[[str], Front]) -> ModelShape:
    """The shape of the model in a file and its other shards; `opened` gives the front of each. Raises PaddockError where one is no GGUF."""
    first = SHARD.sub(lambda found: f"-00001-of-{found[2]}.gguf", _path(name))
    header, began = _header(opened(_with_path(name, first))), time.monotonic()
    count = header.keys.get("split.count", 1)
    if not isinstance(count, int) or not 0 <= count <= SHARDS_MOST or (count > 1 and not SHARD.search(first)):
        raise wrong(without_password(name), f"it is one of {count} shards, and not named like one (…-00001-of-00003.gguf)")
    for number in range(2, count + 1):
        other = _header(opened(_with_path(name, SHARD.sub(f"-{number:05}-of-{count:05}.gguf", first))))
        header.tensors.update(other.tensors)
        if len(header.tensors) > TENSORS_MOST:
            raise wrong(without_password(name), f"its parts have more than {TENSORS_MOST:,} tensors: llama.cpp would not load this file")
        if time.monotonic() - began > ALL_PARTS_S:
            raise wrong(without_password(name), f"the headers of its {count} parts have not come within {bounds.time_words(ALL_PARTS_S)}")
        header.types = other.types | header.types
    return _of_header(without_password(name), header)


def _path(name: str) -> str:
    return urlsplit(name).path if "://" in name else name


def _with_path(name: str, path: str) -> str:
    return urlunsplit(urlsplit(name)._replace(path=path)) if "://" in name else path


def _header(front: Front) -> _Header:
    front.more(FIRST_BYTES)
    if front.data[:4] != MAGIC:
        raise front.wrong(_instead(bytes(front.data[:512])))
    front.take(4)
    version = front.number("I")
    if version not in (2, 3):
        swapped = version >> 24 in (2, 3)
        raise front.wrong("it is a GGUF for big-endian machines" if swapped else f"it is a GGUF of version {version}, not of 2 or 3")
    tensors, keys = front.number("Q"), front.number("Q")
    if tensors > TENSORS_MOST or keys > KEYS_MOST:
        raise front.wrong(f"its header speaks of {tensors} tensors and {keys} keys: llama.cpp would not load this file")
    header = _Header()
    for _ in range(keys):
        _read_key(front, header)
    alignment = header.keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise front.wrong(f"general.alignment is {alignment}: llama.cpp would not load this file")
    file = without_password(front.name).rpartition("/")[2]
    for each in read_tensors(front, tensors, alignment):
        header.tensors[each.name] = each.size
        header.types.setdefault(each.kind, (each.kind, type_name(each.kind), shown(each.name), file))
    return header


def _instead(front: bytes) -> str:
    """What a file is that should have been a GGUF."""
    text = front.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not a GGUF: take the address that downloads the file"
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the GGUF itself: `git lfs pull` fetches that"
    return "it is empty" if not front else "it is not a GGUF: the magic bytes are missing"


def _read_key(front: Front, header: _Header) -> None:
    name, kind = front.text(), front.number("I")
    if kind == STRING:
        length = front.number("Q")
        start = front.take(length)
        if length <= ITEMS_MOST:
            header.keys[name] = front.data[start : start + length].decode("utf-8", "replace")
    elif kind in NUMBERS:
        header.keys[name] = front.number(NUMBERS[kind])
    elif kind == ARRAY:
        of, count = front.number("I"), front.number("Q")
        header.lengths[name] = count
        if of == STRING:
            _skip_texts(front, count)
        elif of in NUMBERS:
            start = front.take(count * struct.calcsize(NUMBERS[of]))
            if count <= ITEMS_MOST:
                header.keys[name] = struct.unpack_from(f"<{count}{NUMBERS[of]}", front.data, start)
        else:
            raise front.wrong(f"{name[:NAME_SHOWN]} is an array of a kind that no GGUF has ({of})")
    else:
        raise front.wrong(f"{name[:NAME_SHOWN]} is of a kind that no GGUF has ({kind})")


def _skip_texts(front: Front, count: int) -> None:
    """A vocabulary has hundreds of thousands: nothing is made of them."""
    length = struct.Struct("<Q").unpack_from
    for _ in range(count):
        front.take(length(front.data, front.take(8))[0])


# Fields of ModelShape that are a number of the header, by the key behind the architecture.
NUMBER_KEYS = {
    "nextn_predict_layers": "nextn_predict_layers",
    "context_length": "context_length",
    "embedding_length": "embedding_length",
    "embedding_length_per_layer_input": "embedding_length_per_layer_input",
    "expert_shared_feed_forward_length": "expert_shared_feed_forward_length",
    "expert_count": "expert_count",
    "key_length": "attention.key_length",
    "value_length": "attention.value_length",
    "key_length_swa": "attention.key_length_swa",
    "value_length_swa": "attention.value_length_swa",
    "shared_kv_layers": "attention.shared_kv_layers",
    "key_length_mla": "attention.key_length_mla",
    "value_length_mla": "attention.value_length_mla",
    "full_attention_interval": "full_attention_interval",
    "ssm_conv_kernel": "ssm.conv_kernel",
    "ssm_inner_size": "ssm.inner_size",
    "ssm_state_size": "ssm.state_size",
    "ssm_group_count": "ssm.group_count",
    "shortconv_l_cache": "shortconv.l_cache",
    "kda_head_dim": "kda.head_dim",
    "wkv_head_size": "wkv.head_size",
    "token_shift_count": "token_shift_count",
    "rope_scaling_original_context_length": "rope.scaling.original_context_length",
}
LAYER_KEYS = {
    "feed_forward_length": "feed_forward_length",
    "expert_feed_forward_length": "expert_feed_forward_length",
    "expert_used_count": "expert_used_count",
    "head_count": "attention.head_count",
    "head_count_kv": "attention.head_count_kv",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "recurrent_layers": "attention.recurrent_layers",
}


def _of_header(name: str, header: _Header) -> ModelShape:
    keys = _Keys(name, header)
    architecture = header.keys.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[\w.-]{1,80}", architecture):
        raise wrong(name, "its header does not say which architecture it is: llama.cpp would not load this file")
    total = sum(header.tensors.values())
    if architecture == "clip":
        return _projector(keys, header, total)
    if architecture == "controlvector" or header.keys.get("general.type") == "adapter":
        return ModelShape(architecture, total, output_bytes=total, tensor_types=header.tensor_types)
    keys.architecture = architecture
    blocks = keys.number("block_count", required=True)
    if not 0 < blocks <= LAYERS_MOST:
        raise wrong(name, f"{architecture}.block_count is {blocks}, which llama.cpp does not take (1 to {LAYERS_MOST})")
    numbers: dict[str, Any] = {each: keys.number(key) for each, key in NUMBER_KEYS.items()}
    numbers |= {each: keys.per_layer(key, blocks) for each, key in LAYER_KEYS.items()}
    numbers["context_length"] = keys.number("context_length", required=True)
    numbers["embedding_length"] = keys.number("embedding_length", required=True)
    numbers["rope_scaling_type"] = keys.text("rope.scaling.type")
    numbers["rope_scaling_factor"] = keys.decimal("rope.scaling.factor")
    numbers["sliding_window"] = keys.number("attention.sliding_window") if keys.says("attention.sliding_window") else None
    if not keys.says("attention.head_count_kv"):
        numbers["head_count_kv"] = numbers["head_count"]
    if numbers["nextn_predict_layers"] > blocks:
        raise wrong(name, f"{architecture}.nextn_predict_layers is more than there are blocks ({blocks})")
    layers, experts = [0] * blocks, [0] * blocks
    for tensor, size in header.tensors.items():
        layer = int(found[1]) if (found := re.match(r"blk\.(\d{1,4})\.", tensor)) else -1
        if 0 <= layer < blocks:
            layers[layer] += size
            experts[layer] += size if EXPERTS.search(tensor) else 0
    inputs = sum(header.tensors.get(each, 0) for each in INPUT)
    return ModelShape(
        architecture,
        total,
        input_bytes=inputs,
        output_bytes=total - inputs - sum(layers),
        layer_bytes=_together(layers),
        expert_bytes=_together(experts),
        tied_bytes=0 if "output.weight" in header.tensors else header.tensors.get("token_embd.weight", 0),
        block_count=blocks,
        vocabulary=header.lengths.get("tokenizer.ggml.tokens") or keys.number("vocab_size"),
        causal=bool(header.keys.get(f"{architecture}.attention.causal", True)),
        tensor_types=header.tensor_types,
        **numbers,
    )


def _projector(keys: _Keys, header: _Header, total: int) -> ModelShape:
    """Of one for images its sizes, and as its context the patches of an image that llama-server makes room for at its start: of one size,
    or where patches are merged as many as 46 × 46 tokens have (tools/mtmd/clip.cpp: set_warmup_n_tokens)."""
    keys.architecture = "clip.vision"
    kind = header.keys.get("clip.vision.projector_type", header.keys.get("clip.projector_type", ""))
    patch, merged = keys.number("patch_size"), keys.number("spatial_merge_size") or (2 if str(kind).startswith("qwen") else 0)
    fixed = keys.number("image_size") // patch if patch else 0
    return ModelShape(
        "clip",
        total,
        output_bytes=total,
        context_length=max(fixed, 46 * merged) ** 2,
        embedding_length=keys.number("embedding_length"),
        feed_forward_length=keys.number("feed_forward_length"),
        head_count=keys.number("attention.head_count"),
        tensor_types=header.tensor_types,
    )


@dataclass
class _Keys:
    """The header's numbers, checked."""

    name: str
    header: _Header
    architecture: str = ""

    def says(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.header.keys

    def number(self, key: str, *, required: bool = False) -> int:
        full = f"{self.architecture}.{key}"
        if required and full not in self.header.keys:
            raise wrong(self.name, f"its header has no {full}: llama-server cannot serve this model")
        return self._checked(full, self.header.keys.get(full, 0))

    def text(self, key: str) -> str:
        value = self.header.keys.get(f"{self.architecture}.{key}")
        return shown(value) if isinstance(value, str) else ""

    def decimal(self, key: str) -> float:
        value = self.header.keys.get(f"{self.architecture}.{key}")
        return value if isinstance(value, float) and 0 < value < 1 << 32 else 0.0

    def per_layer(self, key: str, blocks: int) -> PerLayer:
        full = f"{self.architecture}.{key}"
        value = self.header.keys.get(full, 0)
        if not isinstance(value, tuple):
            return self._checked(full, value)
        if len(value) < blocks:
            raise wrong(self.name, f"{full} has {len(value)} numbers for {blocks} layers")
        numbers = [self._checked(full, each) for each in value[:blocks]]
        # A pattern of ones is not the same as the number one: that says how often a layer sees all.
        return tuple(numbers) if "pattern" in key or "recurrent" in key else _together(numbers)

    def _checked(self, full: str, value: object) -> int:
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            raise wrong(self.name, f"{full} is {str(value)[:NAME_SHOWN]}, where llama.cpp takes a number from 0 to {(1 << 32) - 1}")
        return int(value)


def _together(numbers: list[int]) -> PerLayer:
    """One number where all layers have the same."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
