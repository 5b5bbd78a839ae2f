"""What of a model decides how much memory it takes. Read from a GGUF header (control/models/gguf.py) and kept in the models' lock file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from inventory.errors import PaddockError

PerLayer = int | tuple[int, ...]
"""A number for every layer, or one for each."""

TensorTypes = tuple[tuple[int, str, str, str], ...]
"""Each type of tensor: its number in ggml, its name (empty where gguf-py does not know it), the first tensor of it, and that one's file."""


@dataclass(frozen=True)
class ModelShape:
    """A model's sizes, named as the GGUF's keys without the architecture in front; 0 is what the header does not say.

    What a header gives a layer is a tuple where layers differ. What llama.cpp makes of it stands in roles/llama_server/memory.py.
    """

    architecture: str
    """`llama`, `qwen3moe`; `clip` is a projector for images or sound beside a model, whose context is the patches of an image."""
    tensor_bytes: int
    """All weights, of all shards."""
    input_bytes: int = 0
    """Of them what looks tokens up; llama.cpp keeps it in host memory."""
    output_bytes: int = 0
    """Of them the output layer, and what else belongs to no layer."""
    layer_bytes: PerLayer = 0
    """Of them each layer, its experts included."""
    expert_bytes: PerLayer = 0
    """Of each layer the experts."""
    tied_bytes: int = 0
    """Of the token embedding, where it is the output layer too."""

    block_count: int = 0
    nextn_predict_layers: int = 0
    """How many of the blocks only draft tokens; they come last."""
    context_length: int = 0
    """What it was trained for."""
    embedding_length: int = 0
    embedding_length_per_layer_input: int = 0
    vocabulary: int = 0
    """Tokens that it knows."""

    feed_forward_length: PerLayer = 0
    expert_feed_forward_length: PerLayer = 0
    expert_shared_feed_forward_length: int = 0
    expert_count: int = 0
    expert_used_count: PerLayer = 0

    head_count: PerLayer = 0
    head_count_kv: PerLayer = 0
    key_length: int = 0
    """Of a head; 0: the embedding, shared out among the heads."""
    value_length: int = 0
    key_length_swa: int = 0
    value_length_swa: int = 0
    sliding_window: int | None = None
    """In tokens; a 0 in the header is another thing than none."""
    sliding_window_pattern: PerLayer = 0
    """1 for each layer that sees only the window; or N, where every Nth sees all."""
    shared_kv_layers: int = 0
    key_length_mla: int = 0
    value_length_mla: int = 0
    causal: bool = True

    recurrent_layers: PerLayer = 0
    full_attention_interval: int = 0
    ssm_conv_kernel: int = 0
    ssm_inner_size: int = 0
    ssm_state_size: int = 0
    ssm_group_count: int = 0
    shortconv_l_cache: int = 0
    kda_head_dim: int = 0
    wkv_head_size: int = 0
    token_shift_count: int = 0

    rope_scaling_type: str = ""
    """`yarn`, `linear`"""
    rope_scaling_factor: float = 0.0
    rope_scaling_original_context_length: int = 0

    tensor_types: TensorTypes = field(default=(), compare=False)
    """Empty where nobody has looked; what it says decides no memory."""

    @property
    def layers(self) -> int:
        """Blocks that every token goes through."""
        return self.block_count - self.nextn_predict_layers


def at(numbers: PerLayer, layer: int) -> int:
    """The number of one layer."""
    return numbers[layer] if isinstance(numbers, tuple) else numbers


def as_data(shape: ModelShape) -> dict[str, Any]:
    """For JSON: only what differs from the default."""
    values = {each.name: (getattr(shape, each.name), each.default) for each in fields(ModelShape)}
    return {name: _listed(value) for name, (value, default) in values.items() if value != default}


def from_data(data: Mapping[str, Any], where: str) -> ModelShape:
    """The shape that `as_data` wrote. Raises PaddockError, with `where` in it, where somebody else wrote it."""
    kinds = {each.name: (each.default, each.type) for each in fields(ModelShape)}
    missing = [name for name, (default, _) in kinds.items() if default is MISSING and name not in data]
    values: dict[str, Any] = {name: _tupled(value) for name, value in data.items()}
    wrong = [name for name, value in values.items() if name not in kinds or not _is(value, str(kinds[name][1]))]
    if found := [*missing, *wrong]:
        raise PaddockError(f"{where}: it says nothing sensible of {', '.join(found)}: `paddock models pull --lock` writes it anew")
    return ModelShape(**values)


def _listed(value: object) -> object:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: object) -> object:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _is(value: object, kind: str) -> bool:
    """Whether a value is of an annotated type, as it stands in this file: `PerLayer`, `int | None`, `TensorTypes`."""
    if kind == "TensorTypes":
        return isinstance(value, tuple) and all(
            isinstance(each, tuple) and [type(part) for part in each] == [int, str, str, str] for each in value
        )
    if isinstance(value, tuple):
        return kind == "PerLayer" and all(type(each) is int for each in value)
    return type(value).__name__ in kind.replace("PerLayer", "int").split(" | ")
