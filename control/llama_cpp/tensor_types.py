"""The types of tensors that a version of llama.cpp has, read out of its ggml.h."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inventory.options import TensorType
from resources import lines_of

ENUM = re.compile(r"\benum ggml_type\s*\{(.*?)\}", re.DOTALL)
ENUMERATOR = re.compile(r"\s*(//)?\s*GGML_TYPE_(\w+)\s*(?:=\s*(\d+))?\s*(?:,|//|$)")


def tensor_types(header: str) -> Iterator[TensorType]:
    """The types of ggml.h's `enum ggml_type`. One that was removed stands there as a comment with its number.

    ggml refuses every other number: those from GGML_TYPE_COUNT on, and the gaps, whose blocks have no size (ggml/src/gguf.cpp).
    """
    body, number = ENUM.search(header), -1
    for found in filter(None, map(ENUMERATOR.match, lines_of(body[1]) if body else ())):
        comment, name, value = found.groups()
        if name == "COUNT" or (comment and not value):
            continue
        if comment:
            yield TensorType(int(value), name, removed=True)
        else:
            number = int(value) if value else number + 1
            yield TensorType(number, name)
