"""The options of one version of llama-server, and what is wrong with a preset that is for it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from inventory.problems import did_you_mean, quoted

SHIPPED = Path(__file__).parent / "llama-server-options.json"

Takes = Literal["nothing", "on-off", "whole", "decimal", "text", "text or on-off", "two"]
"""What stands behind an option. `nothing` and `on-off` are flags, of which only the second can be turned off again."""

Part = Literal["model", "server", "router", "preset", "source", "ends"]
"""What of llama-server an option is for: serving a model · whoever answers requests, router and instance alike · the router alone, which
takes it out of what it starts a model with · the preset file alone · where a model comes from · printing something and leaving."""

Value = str | int | float | bool

ON, OFF = frozenset(("on", "enabled", "true", "1")), frozenset(("off", "disabled", "false", "0"))
"""common/arg.cpp: is_truthy, is_falsey."""

RENAMED = {
    "mmap": "load-mode: mmap",
    "no-mmap": "load-mode: none",
    "mlock": "load-mode: mlock",
    "direct-io": "load-mode: dio",
    "dio": "load-mode: dio",
    "no-direct-io": "load-mode: mmap",
    "webui": "ui",
    "no-webui": "no-ui",
    "draft-max": "spec-draft-n-max",
    "draft-min": "spec-draft-n-min",
    "defrag-thold": "",
}
"""What went from llama.cpp without a word in its source, and what does the same now; nothing where it is not needed any more."""


@dataclass(frozen=True)
class Option:
    """One option with all its spellings, without dashes: `("c", "ctx-size")`. The last is the one that a router passes on to a model."""

    names: tuple[str, ...]
    takes: Takes
    part: Part = "model"
    negated: tuple[str, ...] = ()
    """Spellings that turn it off: `("no-mmap",)`."""
    env: str = ""
    hint: str = ""
    """What its help calls the value: `[on|off|auto]`."""
    removed: str | None = None
    """Of one that is only there to say that it is gone: what to use in its place, as far as the source says that."""

    @property
    def name(self) -> str:
        return self.names[-1]

    @property
    def spellings(self) -> tuple[str, ...]:
        return self.names + self.negated


@dataclass(frozen=True)
class Options:
    """All that one version of llama-server takes. `source` is the identity of its source, `label` what people call the version."""

    source: str
    label: str
    all: tuple[Option, ...]

    @cached_property
    def by_spelling(self) -> Mapping[str, Option]:
        return {spelling: option for option in self.all for spelling in option.spellings}

    def find(self, spelling: str) -> Option | None:
        return self.by_spelling.get(spelling)

    def written(self) -> str:
        """As a file, an option a line."""
        lines = (json.dumps({name: value for name, value in vars(each).items() if value not in ("", ())}) for each in self.all)
        return f'{{"source": {json.dumps(self.source)}, "label": {json.dumps(self.label)}, "all": [\n' + ",\n".join(lines) + "\n]}\n"


def read(text: str) -> Options:
    """What `written` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    data = json.loads(text)
    return Options(data["source"], data["label"], tuple(_option(each) for each in data["all"]))


def _option(each: Mapping[str, object]) -> Option:
    return Option(**{name: tuple(value) if isinstance(value, list) else value for name, value in each.items()})  # type: ignore[arg-type]


class Fault(NamedTuple):
    """What is wrong with one key of a preset, or with its value."""

    key: str
    words: str
    of_value: bool = False


def faults(preset: Mapping[str, Value], options: Options, fixed: Collection[str] = ()) -> Iterator[Fault]:
    """Everything that this version of llama-server would refuse, mistake or ignore in a preset.

    `fixed` are spellings that stand on the command line of the router or instance already, which is stronger than a preset.
    """
    told = {options.find(spelling): spelling for spelling in fixed}
    first: dict[Option, str] = {}
    for key, value in preset.items():
        option = options.find(key)
        if option is None:
            yield Fault(key, f"{quoted(key)} is no option of llama-server {options.label}{_instead(key, options)}")
        elif words := _out_of_place(key, option, options):
            yield Fault(key, words)
        elif option in told:
            words = f'{quoted(key)} has no effect here: Paddock starts llama-server with "--{told[option]}", and a command line goes before'
            yield Fault(key, words)
        elif option in first:
            better = option.name if option.name in (key, first[option]) else key
            words = f"{quoted(first[option])} and {quoted(key)} are one option, and only one of them would count: keep {quoted(better)}"
            yield Fault(key, words)
        elif words := _unfit(key, value, option):
            yield Fault(key, words, of_value=True)
        if option is not None:
            first.setdefault(option, key)


def _out_of_place(key: str, option: Option, options: Options) -> str:
    """Why an option that there is cannot stand in a preset."""
    if option.removed is not None:
        return f"{quoted(key)} was removed from llama-server before {options.label}" + (f": {option.removed}" if option.removed else "")
    match option.part:
        case "router":
            return f"{quoted(key)} has no effect in a preset: the router alone reads it, from its own command line"
        case "source":
            return f"{quoted(key)} has no place in a preset: where a model comes from is its `source`, with a digest"
        case "ends":
            return f"{quoted(key)} has no place in a preset: llama-server would print something and end"
    if option.takes == "two":
        return f"{quoted(key)} takes two values, which a preset cannot carry: llama-server would end"
    return ""


def _instead(key: str, options: Options) -> str:
    """What somebody may have meant."""
    bare = key.lstrip("-").lower().replace("_", "-")
    if options.find(bare):
        return f': write "{bare}"'
    if bare in RENAMED and (not (new := RENAMED[bare]) or options.find(new.partition(":")[0])):
        return f": it was removed, write `{new}`" if new else ": it was removed, and is not needed any more"
    # A letter or two are near to everything.
    known = (spelling for spelling, option in options.by_spelling.items() if len(spelling) > 3 and option.removed is None)
    return did_you_mean(bare, known)


def _unfit(key: str, value: Value, option: Option) -> str:
    """Why llama-server would not take the value, or take it for another."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    what = f"this is {value if not isinstance(value, str) else quoted(value)}"
    if isinstance(value, bool):
        what = f"this is {text}"
    match option.takes:
        case "nothing" | "on-off" if text not in ON | OFF:
            return f"{quoted(key)} is turned on or off, {what}"
        case "whole" if isinstance(value, bool) or not re.fullmatch(r"[-+]?[0-9]+", text):
            return f"{quoted(key)} takes a whole number, {what}"
        case "decimal" if isinstance(value, bool) or not _is_number(text):
            return f"{quoted(key)} takes a number, {what}"
        case "text" if isinstance(value, bool):
            hint = f", which its help calls {option.hint}" if option.hint else ""
            return f"{quoted(key)} takes a value{hint}, {what}"
    return ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?", text) is not None


def unsuited_for_router(spellings: Collection[str], options: Options) -> Iterator[Fault]:
    """What has no place on a router's command line, because there it would replace what every model's preset says."""
    for spelling in spellings:
        option = options.find(spelling)
        if option is None:
            yield Fault(spelling, f"{quoted(spelling)} is no option of llama-server {options.label}{_instead(spelling, options)}")
        elif option.part not in ("server", "router"):
            words = f"{quoted(spelling)} on the router's command line would replace what every preset says: write it in `preset`"
            yield Fault(spelling, words)


def canonical(preset: Mapping[str, Value], options: Options) -> dict[str, Value]:
    """The preset with each option by its one name: `{c: 4096, no-jinja: true}` → `{ctx-size: 4096, jinja: false}`.

    What the version does not know stays as it is.
    """
    found: dict[str, Value] = {}
    for key, value in preset.items():
        option = options.find(key)
        found[option.name if option else key] = str(value).lower() not in ON if option and key in option.negated else value
    return found


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
