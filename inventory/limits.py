"""Settings that llama-server takes one by one, and ends with where they come together.

Which of these rules hold in a version is read out of its source (control/llama_cpp/limits.py), with the values that they are about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from inventory.option_values import as_read
from inventory.options import Fault, Options, Value
from roles.preset import OFF, ON
from roles.wording import did_you_mean, quoted

QUANTIZED_V = "a quantized V cache needs flash attention"
TENSOR_SPLIT = "splitting by tensor needs flash attention"
QUANTIZED_SPLIT = "splitting by tensor takes no quantized cache"
NO_BATCH = "only one of the two may be 0"
BATCH_BELOW_SLOTS = "a batch needs a token for every slot"
LENGTH_OR_RATES = "the two exclude each other"
PLAIN_TEMPLATE = "a template without Jinja is one of those that are built in"
MAIN_GPU = "the main card is one of those that a server sees"
STARTUP = "models_max limits what loads on startup"
STARTUP_WITHOUT_LIMIT = "models_max 0 lets nothing load on startup"
WAITS_FOR_EVER = "a request that waits for room may wait for ever"
UNLOADED_TOO_SOON = "a model may be unloaded before it answers the request that it was loaded for"
CUTS_OFF = "loading a model ends the answers of the one that makes room for it"

MAKING_ROOM = {WAITS_FOR_EVER: 28443, UNLOADED_TOO_SOON: 28698, CUTS_OFF: 21678}
"""What goes wrong in a router that unloads one model to load another, each with the number of its issue at ggml-org/llama.cpp. The last of
them is mended in 0.5.0, by pull request 29217."""


class Said(NamedTuple):
    """An option as a preset has it, and its value as llama-server reads it; both empty where it is not there."""

    key: str = ""
    text: str = ""

    @property
    def number(self) -> int | None:
        return int(self.text) if re.fullmatch(r"[-+]?[0-9]{1,10}", self.text) else None

    def __str__(self) -> str:
        shown = {"true": "on", "false": "off"}.get(self.text, self.text)
        return f"{quoted(self.key)} is {shown}"


Find = Callable[[str], Said]


def contradictions(preset: Mapping[str, Value], options: Options) -> Iterator[Fault]:
    """What this version ends with, of all that a model is served with. A fault stands at the last of the keys that it is about."""
    find = _finder(preset, options)
    order, told = list(preset), set[Said]()
    for rule in (each for each in RULES if each in options.rules):
        for about, remedy in RULES[rule](find, options.rules[rule]):
            there = [each for each in about if each.key]
            if told.isdisjoint(there):
                last = max(there, key=lambda each: order.index(each.key))
                words = f"{' and '.join(map(str, there))}, but in llama-server {options.label} {rule}: {remedy}"
                yield Fault(last.key, words, of_value=True)
            told.update(there)


def beyond_cards(preset: Mapping[str, Value], options: Options, cards: int) -> Iterator[Fault]:
    """A main card that a server which is kept to so many cards does not have."""
    find = _finder(preset, options)
    main = find("main-gpu")
    alone = find("split-mode").text == "none" and not any(find(each).key for each in ("device", "rpc"))
    if MAIN_GPU in options.rules and cards and alone and main.number is not None and main.number >= cards:
        remedy = f"set it to {cards - 1} or less" if cards > 1 else "remove it"
        words = f"{main}, but the server has {cards} of the cards, and llama-server counts those from 0: {remedy}"
        yield Fault(main.key, words, of_value=True)


def _finder(preset: Mapping[str, Value], options: Options) -> Find:
    of = {option: Said(key, as_read(value)) for key, value in preset.items() if (option := options.find(key))}

    def find(spelling: str) -> Said:
        option = options.find(spelling)
        return of.get(option, Said()) if option else Said()

    return find


def startup_fault(loaded: Sequence[str], models_max: int, listed: int, options: Options) -> str:
    """Why a router does not start that is to load these of the models that it lists on startup; nothing where it does."""
    if STARTUP not in options.rules or len(loaded) <= models_max or (not models_max and STARTUP_WITHOUT_LIMIT not in options.rules):
        return ""
    names = ", ".join(loaded[:8]) + (" …" if loaded[8:] else "")
    told = f"{names} {'load' if loaded[1:] else 'loads'} on startup, and models_max is {models_max}"
    why = f"llama-server {options.label} would not start"
    if not models_max:
        return f"{told}: {why}, because 0 allows none on startup; set models_max to {listed}, the number of models"
    return f"{told}: {why}; set models_max to {len(loaded)} or more, or remove load-on-startup from the others"


def eviction_fault(models_max: int, listed: int, options: Options) -> str:
    """Why a router of this version must not have to unload a model to load another of those that it lists; nothing where it may, or never
    has to."""
    rule = next((each for each in MAKING_ROOM if each in options.rules), "")
    if not rule or not 0 < models_max < listed:
        return ""
    told = f"the router lists {listed} models and has {models_max} in memory at a time (models_max)"
    why = f"in llama-server {options.label} {rule} (ggml-org/llama.cpp#{MAKING_ROOM[rule]})"
    return f"{told}, but {why}: use llama.cpp 0.5.0 or newer, set models_max to {listed}, or to 0 for no limit, or use `instances`"


Found = Iterator[tuple[tuple[Said, ...], str]]
"""The options that are at odds, and what to do."""


def _quantized_v(find: Find, quantized: Sequence[str]) -> Found:
    cache, flash = find("cache-type-v"), find("flash-attn")
    if cache.text in quantized and flash.text in OFF:
        yield (cache, flash), f"set {quoted(flash.key)} to on, or {quoted(cache.key)} to f16"


def _tensor_split(find: Find, about: Sequence[str]) -> Found:
    split, flash = find("split-mode"), find("flash-attn")
    if split.text == "tensor" and flash.text in OFF:
        yield (split, flash), f"set {quoted(flash.key)} to on, or {quoted(split.key)} to layer"


def _quantized_split(find: Find, quantized: Sequence[str]) -> Found:
    split = find("split-mode")
    for cache in (find("cache-type-k"), find("cache-type-v")):
        if split.text == "tensor" and cache.text in quantized:
            yield (split, cache), f"set {quoted(split.key)} to layer, or {quoted(cache.key)} to f16"


def _no_batch(find: Find, about: Sequence[str]) -> Found:
    batch, physical = find("batch-size"), find("ubatch-size")
    if batch.number == physical.number == 0:
        yield (batch, physical), f"set {quoted(batch.key)} to 2048, which is the default"


def _batch_below_slots(find: Find, automatic: Sequence[str]) -> Found:
    slots = find("parallel")
    count = slots.number if slots.number and slots.number > 0 else int(automatic[0])
    # What embeds takes the smaller of the two sizes (tools/server/server.cpp); a number below 0 has a meaning there alone.
    embeds = find("embeddings").text in ON or find("rerank").text in ON
    least = 0 if embeds or find("pooling").text not in ("", "none") or count == 1 else -(1 << 31)
    for size in (find("batch-size"), *([find("ubatch-size")] if embeds else [])):
        if size.number is not None and least <= size.number < count:
            yield (size, slots), f"set {quoted(size.key)} to {count} or more, one for each of the {count} slots"


def _length_or_rates(find: Find, about: Sequence[str]) -> Found:
    length, rates = find("spec-synth-len"), find("spec-synth-rates")
    if length.key and rates.key:
        yield (length, rates), "remove one of them"


def _plain_template(find: Find, known: Sequence[str]) -> Found:
    template, jinja = find("chat-template"), find("jinja")
    off = jinja.text in (ON if jinja.key.startswith("n") else OFF)
    # A longer text may be a template itself.
    if off and re.fullmatch(r"[\w.-]+", template.text) and not find("chat-template-file").key:
        names = [each for each in known if "*" not in each]
        if not any(fnmatchcase(template.text, each) for each in known):
            yield (template, jinja), f"name one of {', '.join(names)}{did_you_mean(template.text, names)}"


RULES: Mapping[str, Callable[[Find, Sequence[str]], Found]] = {
    QUANTIZED_V: _quantized_v,
    TENSOR_SPLIT: _tensor_split,
    QUANTIZED_SPLIT: _quantized_split,
    NO_BATCH: _no_batch,
    BATCH_BELOW_SLOTS: _batch_below_slots,
    LENGTH_OR_RATES: _length_or_rates,
    PLAIN_TEMPLATE: _plain_template,
}
"""What each rule finds in a preset, with the values that it is about in this version."""
