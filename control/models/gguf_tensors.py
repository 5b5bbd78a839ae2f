"""The tensors that a GGUF lists: how large each is, and of which type."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from control.models.gguf_front import NAME_SHOWN, Front


class Tensor(NamedTuple):
    """`kind` is the number of its type (ggml.h: enum ggml_type), `size` is in bytes."""

    name: str
    kind: int
    size: int


class _Place(NamedTuple):
    """Where a tensor lies: `offset` counts from the end of the header. `size` is None where its type is not known here."""

    name: str
    kind: int
    offset: int
    size: int | None


def read_tensors(front: Front, count: int, alignment: int) -> Iterator[Tensor]:
    """The next `count` tensors of the header. Raises PaddockError where the file does not hold them.

    A type that gguf-py does not know may be one that the host's llama.cpp has. So it is not refused here: such a tensor goes on to where
    the next one begins, or to the end of the file.
    """
    places = [_place(front) for _ in range(count)]
    start = -(-front.position // alignment) * alignment if count else front.position
    offsets = sorted({each.offset for each in places})
    end, found = start, []
    for each in places:
        size = each.size
        if size is None:
            following = bisect_right(offsets, each.offset)
            if following == len(offsets) and not front.size:
                raise front.wrong(f"its tensor {each.name[:NAME_SHOWN]} is of type {each.kind}, and nobody says where the file ends")
            size = (offsets[following] if following < len(offsets) else max(front.size - start, each.offset)) - each.offset
        found.append(Tensor(each.name, each.kind, size))
        end = max(end, start + each.offset + size)
    if front.size and end > front.size:
        raise front.wrong(f"it is cut off: it has {front.size} bytes, and its tensors go on to {end}: fetch it again")
    return iter(found)


def _place(front: Front) -> _Place:
    name, dimensions = front.text(), front.number("I")
    if dimensions > 4:
        raise front.wrong(f"its tensor {name[:NAME_SHOWN]} has {dimensions} dimensions: llama.cpp would not load this file")
    elements = 1
    for _ in range(dimensions):
        elements *= front.number("Q")
    kind, offset = front.number("I"), front.number("Q")
    if elements > 1 << 48 or offset > 1 << 50:
        raise front.wrong(f"its tensor {name[:NAME_SHOWN]} is larger than any model: llama.cpp would not load this file")
    block, size = _block_sizes().get(kind, (0, 0))
    return _Place(name, kind, offset, elements // block * size if block else None)


@cache
def type_name(kind: int) -> str:
    """`Q6_K` of 14; empty where gguf-py does not know the number."""
    from gguf.constants import GGMLQuantizationType

    return next((each.name for each in GGMLQuantizationType if each == kind), "")


@cache
def _block_sizes() -> Mapping[int, tuple[int, int]]:
    """Elements and bytes of a block, by the number of its type."""
    from gguf.constants import GGML_QUANT_SIZES  # numpy comes with it: only for who reads a header

    return {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
