"""What `override-kv` makes of a model's header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from inventory.model_shape import ModelShape
from roles.llama_server.memory_options import Value

FIELDS = {
    "context_length": "context_length",
    "rope.scaling.original_context_length": "rope_scaling_original_context_length",
    "attention.sliding_window": "sliding_window",
    "expert_used_count": "expert_used_count",
}
"""Fields of ModelShape by the key behind the architecture. Of the other keys most have to be as the tensors are."""

OVERRIDE = re.compile(r"\s*([^=]+)=int:\s*(\d+)")
"""`llama.context_length=int:65536` (common/common.cpp: string_parse_kv_override)"""


def overridden(shape: ModelShape, preset: Mapping[str, Value]) -> ModelShape:
    """The shape as llama.cpp takes it with these options (src/llama-model-loader.cpp: get_key); an array stays as it is."""
    found = map(OVERRIDE.match, str(preset.get("override-kv", "")).split(","))
    values: dict[str, Any] = {
        FIELDS[key]: int(each[2]) for each in found if each and (key := each[1].removeprefix(f"{shape.architecture}.")) in FIELDS
    }
    return replace(shape, **{name: value for name, value in values.items() if not isinstance(getattr(shape, name), tuple)})
