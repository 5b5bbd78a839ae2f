"""The options of one version of llama-server and the tensors that it loads, and what is wrong with a preset that is for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from inventory.bounds import from_json
from inventory.option_values import unfit
from roles.preset import ON, UNQUOTED, Several
from roles.wording import did_you_mean, quoted

SHIPPED = Path(__file__).parent / "llama-server-options.json"

Takes = Literal["nothing", "on-off", "whole", "long", "decimal", "json", "text", "text or on-off", "two"]
"""What stands behind an option. `nothing` and `on-off` are flags, of which only the second can be turned off again. `whole` has 32 bits,
`long` 64."""

Part = Literal["model", "server", "router", "preset", "source", "ends"]
"""What of llama-server an option is for: serving a model · whoever answers requests, router and instance alike · the router alone, which
takes it out of what it starts a model with · the preset file alone · where a model comes from · printing something and leaving."""

Value = str | int | float | bool

RENAMED = {
    "mmap": "load-mode: mmap",
    "no-mmap": "load-mode: none",
    "mlock": "load-mode: mlock",
    "direct-io": "load-mode: dio",
    "dio": "load-mode: dio",
    "no-direct-io": "load-mode: mmap",
    "draft-max": "spec-draft-n-max",
    "draft-min": "spec-draft-n-min",
    "defrag-thold": "",
}
"""What went from llama.cpp without a word in its source, and what does the same now; nothing where it is not needed any more."""


@dataclass(frozen=True)
class Option:
    """One option with all its spellings: `("-c", "--ctx-size")`. The last is the one that a router passes on to a model."""

    names: tuple[str, ...]
    takes: Takes
    part: Part = "model"
    negated: tuple[str, ...] = ()
    """Spellings that turn it off: `("-nocb", "--no-cont-batching")`."""
    env: str = ""
    hint: str = ""
    """What its help calls the value: `[on|off|auto]`."""
    gone: Literal["", "deprecated", "removed"] = ""
    """`removed` is one that is only there to say that it is gone."""
    instead: str = ""
    """What the source says to use in place of one that is gone or going."""
    values: tuple[str, ...] = ()
    """The words that it takes, where those are all, or all but a number."""
    separator: str = ""
    """What stands between several of them."""
    several: str = ""
    """What stands between several values, `,` or `;`; `again` where the option itself has to be repeated; empty where it takes one."""
    refused: tuple[str, ...] = ()
    """The numbers that llama-server ends with: `("< 0", "> 1024")`."""

    @property
    def name(self) -> str:
        """As a preset has it: `ctx-size`"""
        return bare(self.names[-1])

    @cached_property
    def turned_off_by(self) -> frozenset[str]:
        return frozenset(map(bare, self.negated))


DEFAULTS = {field.name: field.default for field in fields(Option)}


class TensorType(NamedTuple):
    """A type of tensor by its number in a GGUF: `TensorType(14, "Q6_K")`. One that was `removed` has a number still, and is not loaded."""

    number: int
    name: str
    removed: bool = False


class Sizing(NamedTuple):
    """How a version of llama-server sizes contexts, where versions differ."""

    yarn_raises_limit: bool = False
    """Whether a slot may have as much context as YaRN stretches the model's training to."""
    fit_counts_slots: bool = False
    """Whether `fit`, where no size is given, gives each slot with a cache of its own the whole training, instead of its share."""


OLDER = Sizing()
"""As versions did before any of that; so does one that nobody knows."""


@dataclass(frozen=True)
class Options:
    """All that one version of llama-server takes. `source` is the identity of its source, `label` what people call the version. `rules` are
    those of inventory/limits.py that hold in it, each with the values that it is about.
    """

    source: str
    label: str
    all: tuple[Option, ...]
    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    tensor_types: tuple[TensorType, ...] = ()
    """Those that its ggml has; empty where its source does not say it."""
    sizing: Sizing = OLDER

    @cached_property
    def by_spelling(self) -> Mapping[str, Option]:
        """Without dashes, as a preset has them. Of options with one spelling the last counts (common/preset.cpp: get_map_key_opt)."""
        return {bare(spelling): option for option in self.all for spelling in option.names + option.negated}

    def find(self, spelling: str) -> Option | None:
        return self.by_spelling.get(spelling)

    @cached_property
    def tensor_type(self) -> Mapping[int, TensorType]:
        return {each.number: each for each in self.tensor_types}

    def written(self) -> str:
        """As a file: a rule a line, a type of tensor a line, an option a line."""
        options = [json.dumps({name: value for name, value in _fields(each).items() if value != DEFAULTS[name]}) for each in self.all]
        rules = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in self.rules.items()]
        first = json.dumps({"source": self.source, "label": self.label, "sizing": self.sizing._asdict()})[:-1]
        listed = f'"rules": {_lines(rules, "{}")}, "tensor_types": {_lines(map(json.dumps, self.tensor_types))}, "all": {_lines(options)}'
        return f"{first}, {listed}}}\n"


def _lines(items: Iterable[str], brackets: str = "[]") -> str:
    return f"{brackets[0]}\n" + ",\n".join(items) + f"\n{brackets[1]}"


def _fields(option: Option) -> dict[str, object]:
    return {field.name: getattr(option, field.name) for field in fields(option)}


def bare(spelling: str) -> str:
    """`--ctx-size` → `ctx-size`"""
    return spelling.lstrip("-")


def read(text: str) -> Options:
    """What `written` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    data = from_json(text)
    rules = {name: tuple(values) for name, values in data["rules"].items()}
    types = tuple(TensorType(*each) for each in data["tensor_types"])
    return Options(data["source"], data["label"], tuple(_option(each) for each in data["all"]), rules, types, Sizing(**data["sizing"]))


def _option(each: Mapping[str, object]) -> Option:
    return Option(**{name: tuple(value) if isinstance(value, list) else value for name, value in each.items()})  # type: ignore[arg-type]


class Fault(NamedTuple):
    """What is wrong with one key of a preset, or with its value."""

    key: str
    words: str
    of_value: bool = False


FIXED = {"offline": "", "cors-origins": ": let pages of other origins call a site, with its `origins`"}
"""What Paddock starts every llama-server with, besides what roles/preset.py refuses; and what to write in its place."""


def faults(preset: Mapping[str, Value], options: Options, *, router: bool = True) -> Iterator[Fault]:
    """What this version of llama-server would refuse, mistake or ignore in a router's preset, or in the options of an instance."""
    fixed = {option for spelling in FIXED if (option := options.find(spelling))}
    first: dict[Option, str] = {}
    for key, value in preset.items():
        option = options.find(key)
        if option is None:
            yield Fault(key, f"{quoted(key)} is not an option of llama-server {options.label}{_instead(key, options)}")
        elif words := _out_of_place(key, option, options, router):
            yield Fault(key, words)
        elif option in fixed:
            why = "a flag on the router's command line wins over every preset" if router else "it cannot be given twice"
            why += FIXED.get(option.name, "")
            yield Fault(key, f'{quoted(key)} cannot be changed here: Paddock starts llama-server with "--{option.name}", and {why}')
        elif option in first:
            better = max(key, first[option], key=len)
            words = f"{quoted(first[option])} and {quoted(key)} are the same option, and only one would take effect: keep {quoted(better)}"
            yield Fault(key, words)
        elif words := _not_several(key, value, option, router) or unfit(key, value, option):
            yield Fault(key, words, of_value=True)
        if option is not None:
            first.setdefault(option, key)


LETTERS = "a router takes the letters of samplers, such as `sampler-seq: kpmt`"
"""The one option that has semicolons between its values is `samplers`."""


def _not_several(key: str, value: Value, option: Option, router: bool) -> str:
    """Why an option cannot have the values of a list; empty where it can, and of what is none."""
    if not isinstance(value, Several):
        return ""
    if not option.several:
        return f"{quoted(key)} takes one value, this is a list"
    if option.several != "again" and (wrong := next((each for each in value.items if option.several in each), "")):
        return f"{quoted(wrong)} has {quoted(option.several)} in it, which separates the values of {quoted(key)}: make two of it"
    if router and len(value.items) > 1 and option.several == "again":
        room = "a router's preset file has room for one: give the model an instance, and write it in its preset"
        return f"{quoted(key)} is repeated for each value, and {room}"
    if router and option.several == ";" and len(value.items) > 1:
        return f'{quoted(key)} has ";" between its values, where a router\'s preset file would cut them: {UNQUOTED}; {LETTERS}'
    return ""


def going(preset: Mapping[str, Value], options: Options) -> Iterator[Fault]:
    """What still works, and will not for long, as the source says."""
    for key in preset:
        if (option := options.find(key)) and option.gone == "deprecated":
            words = f"{quoted(key)} is deprecated in llama-server as of {options.label}"
            yield Fault(key, words + (f": {option.instead}" if option.instead else ""))


def _out_of_place(key: str, option: Option, options: Options, router: bool) -> str:
    """Why an option that there is cannot stand there."""
    if option.gone == "removed":
        return f"{quoted(key)} was removed from llama-server, as of {options.label}" + (f": {option.instead}" if option.instead else "")
    match option.part:
        case "preset" if not router:
            return f"{quoted(key)} has no effect on an instance: only a router reads it"
        case "router":
            return f"{quoted(key)} has no effect in a preset: only the router reads it, from its command line"
        case "source":
            return f"{quoted(key)} is not allowed in a preset: set the model's `source` instead, with a digest"
        case "ends":
            return f"{quoted(key)} is not allowed in a preset: it is for interactive use"
    if option.name == "alias":
        return f"{quoted(key)} is not allowed in a preset: set the model's `aliases` instead"
    if option.takes == "two":
        return f"{quoted(key)} takes two values, which a preset cannot contain: llama-server would exit"
    return ""


def _instead(key: str, options: Options) -> str:
    """What somebody may have meant."""
    plain = bare(key).lower().replace("_", "-")
    if options.find(plain):
        return f': write "{plain}"'
    if plain in RENAMED and (not (new := RENAMED[plain]) or options.find(new.partition(":")[0])):
        return f": it was removed, write `{new}`" if new else ": it was removed, and is not needed any more"
    # A letter or two are near to everything.
    known = (spelling for spelling, option in options.by_spelling.items() if len(spelling) > 3 and option.gone != "removed")
    return did_you_mean(plain, known)


def as_arguments(preset: Mapping[str, Value], options: Options) -> list[list[str]]:
    """A preset as an instance's command line has it: `{c: 4096, metrics: true, jinja: false}` →
    `[["--ctx-size", "4096"], ["--metrics"], ["--no-jinja"]]`. Of one option under two names the later counts.

    What only a router reads of a preset is left out. What the version does not know is passed on: llama-server says so, and ends.
    """
    found: dict[Option | str, list[str]] = {}
    for key, value in preset.items():
        option = options.find(key)
        if option and option.part == "preset":
            continue
        found.pop(option or key, None)
        text = ("on" if value else "off") if isinstance(value, bool) else str(value)
        if option is None:
            found[key] = [f"--{key}", text]
        elif option.takes not in ("nothing", "on-off"):
            texts = value.items if isinstance(value, Several) else (text,)
            texts = texts if option.several == "again" else ((option.several or ",").join(texts),)
            found[option] = [word for each in texts for word in (option.names[-1], each)]
        elif (text in ON) != (key in option.turned_off_by):
            found[option] = [option.names[-1]]
        else:
            found[option] = [option.negated[-1]] if option.negated else []
    return [words for words in found.values() if words]


def named_twice(named: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int, str]]:
    """Of models by their names, each with its aliases in order: a model, the number of one of its aliases, and whose name that is already.

    llama-server does not start where two models answer to one name (tools/server/server-models.cpp: add_model).
    """
    taken = {model: model for model in named}
    for model, aliases in named.items():
        for number, alias in enumerate(aliases):
            if alias in taken:
                yield model, number, taken[alias]
            taken.setdefault(alias, model)
