"""Which of a server's devices a model is split over, and which of its tensors lie elsewhere, as its options say.

Files named here are llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from inventory.errors import PaddockError
from inventory.model_shape import ModelShape, at
from roles.llama_server.memory_options import Value

DEVICE, DRAFT_DEVICE, PROJECTOR_DEVICE = ("dev", "device"), ("devd", "device-draft", "spec-draft-device"), ("mmdev", "mmproj-device")
MOVED, DRAFT_MOVED = ("ot", "override-tensor"), ("otd", "override-tensor-draft", "spec-draft-override-tensor")

CPU = "CPU"
"""The buffers of host memory, as `override-tensor` calls them."""


class Split(NamedTuple):
    """`shares` is one number for each device of the server, 0 for one that the model does not use; layers go to the devices in `order`.
    `moved`: a pattern of the names of tensors, and the device that they lie on, None for host memory; the first that matches counts."""

    shares: tuple[float, ...] = ()
    order: tuple[int, ...] = ()
    moved: tuple[tuple[str, int | None], ...] = ()


def said(preset: Mapping[str, Value], spellings: Sequence[str]) -> str:
    """The value of an option, empty where the preset does not have it. Of several spellings the last one counts."""
    return next((str(value) for option, value in reversed([*preset.items()]) if option in spellings), "")


def split_of(preset: Mapping[str, Value], names: Sequence[str], shares: Sequence[float]) -> Split:
    """Of a model on devices that llama.cpp calls so, and that have these shares if nothing says otherwise (src/llama.cpp:
    llama_prepare_model_devices, src/llama-model.cpp: load_tensors). Raises PaddockError where a value is not one that llama-server takes.
    """
    order = _named(said(preset, DEVICE), names)
    if said(preset, ("sm", "split-mode")) == "none":
        main = said(preset, ("mg", "main-gpu")) or "0"
        if not re.fullmatch(r"-?[0-9]{1,9}", main):
            raise PaddockError(f"main-gpu: {main} is not the number of a card")
        order = order[int(main) : int(main) + 1] if int(main) >= 0 else ()
    asked = _proportions(said(preset, ("ts", "tensor-split")))
    given = (asked + (0.0,) * len(names))[: len(order)] if any(asked[: len(order)]) else [shares[device] for device in order]
    split = dict(zip(order, given, strict=True))
    return Split(tuple(split.get(device, 0) for device in range(len(names))), order, _moved(said(preset, MOVED), names))


def draft_split(preset: Mapping[str, Value], names: Sequence[str], shares: Sequence[float]) -> Split:
    """Of the draft, which is split as the model is, but for what is said of it (common/speculative.cpp:
    common_base_params_to_speculative)."""
    own = dict(preset)
    if devices := said(preset, DRAFT_DEVICE):
        own = {**{option: value for option, value in preset.items() if option not in DEVICE}, "device": devices}
        if "," not in devices:
            own = {option: value for option, value in own.items() if option not in ("sm", "split-mode")}
    own = {option: value for option, value in own.items() if option not in MOVED} | {"override-tensor": said(preset, DRAFT_MOVED)}
    return split_of(own, names, shares)


def projector_device(preset: Mapping[str, Value], names: Sequence[str]) -> int | None:
    """Where a projector lies, None for host memory: on the model's first device, or on the first that is not another host's
    (common/arg.cpp: common_params_parse_ex, tools/mtmd/clip.cpp: clip_ctx)."""
    if asked := said(preset, PROJECTOR_DEVICE) or said(preset, DEVICE):
        return next(iter(_named(asked, names)), None)
    return next((device for device, name in enumerate(names) if not name.startswith("RPC")), 0 if names else None)


def asked_devices(preset: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """Each device that the options name, with the option."""
    for spellings in (DEVICE, DRAFT_DEVICE, PROJECTOR_DEVICE):
        value = said(preset, spellings)
        yield from ((spellings[-1], name) for name in value.split(",") if value not in ("", "none"))


def moved_weights(shape: ModelShape, layer: int, moved: Sequence[tuple[str, int | None]]) -> Iterator[tuple[int, int | None]]:
    """Of a layer's weights the bytes that `override-tensor` puts elsewhere, and where.

    A header's notes have the bytes of a layer and of its experts. They are shared out among the tensors by their numbers of weights: an
    estimate where a model has others than attention and feed-forward, or mixes quantizations.
    """
    for name, size in _tensors(shape, layer).items():
        for pattern, where in moved:
            if re.search(pattern, f"blk.{layer}.{name}.weight"):
                yield size, where
                break


def _tensors(shape: ModelShape, layer: int) -> dict[str, int]:
    experts, width = at(shape.expert_bytes, layer), shape.embedding_length
    heads, heads_kv = at(shape.head_count, layer), at(shape.head_count_kv, layer)
    key = shape.key_length or width // max(heads, 1)
    value = shape.value_length or key
    counts = {"attn_q": heads * key, "attn_k": heads_kv * key, "attn_v": heads_kv * value, "attn_output": heads * value}
    end, hidden = ("_shexp", shape.expert_shared_feed_forward_length) if experts else ("", at(shape.feed_forward_length, layer))
    counts |= {f"ffn_{part}{end}": hidden for part in ("gate", "up", "down") if hidden}
    dense, all_of_it = at(shape.layer_bytes, layer) - experts, max(sum(counts.values()), 1)
    sizes = {name: dense * count // all_of_it for name, count in counts.items()}
    return sizes | ({f"ffn_{part}_exps": experts // 3 for part in ("gate", "up", "down")} if experts else {})


def _named(value: str, names: Sequence[str]) -> tuple[int, ...]:
    """The devices of a list; all where there is none. One that is not there is left out: `refusals` tells of it."""
    if not value:
        return tuple(range(len(names)))
    numbers = {name.lower(): number for number, name in enumerate(names)}
    return tuple(numbers[each.lower()] for each in value.split(",") if each.lower() in numbers)


def _proportions(value: str) -> tuple[float, ...]:
    numbers = [each for each in re.split("[,/]+", value) if value]
    if not all(re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?|\.[0-9]+", each) for each in numbers):
        raise PaddockError(f"tensor-split: {value} is not a list of numbers, such as 3,1")
    return tuple(map(float, numbers))


def _moved(value: str, names: Sequence[str]) -> tuple[tuple[str, int | None], ...]:
    """Of `PATTERN=BUFFER,…`; what goes to a device that is not there, stays where it is."""
    found: list[tuple[str, int | None]] = []
    for pattern, _, buffer in (each.partition("=") for each in value.split(",") if value):
        try:
            re.compile(pattern)
        except re.error as error:
            raise PaddockError(f"override-tensor: {pattern} is no regular expression: {error}") from None
        if buffer == CPU or buffer in names:
            found.append((pattern, None if buffer == CPU else names.index(buffer)))
    return tuple(found)
