"""A preset: llama-server's long options, as a section of its router's INI or as an instance's arguments, and what has no place there."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

OPTION = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

LISTEN = "set the role's `listen` instead"
SOURCE = "set the model's `source` instead, with a digest"
ROUTER = "Paddock writes the router's list of models itself"
KEYS = "keys do not belong in an inventory: see `api_key` and `paddock secrets`"
TLS = "the role caddy provides TLS"
OFFLINE = "llama-server downloads nothing here: put the file on the host"
PAGE = "set `ui` of the role llama_cpp instead"
UNQUOTED = "there is no way to quote it; an instance, which has no such file, takes it in its own preset"
SHELL = "it would give any caller a shell or a proxy on the host"

# llama.cpp's preset reader takes an option by any of its spellings in common/arg.cpp, short and negated ones too (`no-agent = off` is on).
REFUSED = {
    **dict.fromkeys(("host", "port", "reuse-port", "api-prefix"), LISTEN),
    **dict.fromkeys(("model", "m", "model-url", "mu", "hf-repo", "hf", "hfr", "hf-file", "hff", "docker-repo", "dr"), SOURCE),
    **dict.fromkeys(("mmproj-url", "mmu"), f"{OFFLINE}, or have it brought there with `mmproj` of the model"),
    **dict.fromkeys(("spec-draft-hf", "hfd", "hfrd", "hf-repo-draft"), f"{OFFLINE}, or have it brought there with `draft` of the model"),
    **dict.fromkeys(("models-preset", "models-dir"), ROUTER),
    **dict.fromkeys(("ui", "webui", "no-ui", "no-webui"), PAGE),
    "models-max": "set the role's `models_max` instead",
    **dict.fromkeys(("models-autoload", "no-models-autoload"), "set the role's `autoload` instead"),
    **dict.fromkeys(("api-key", "api-key-file", "hf-token", "hft"), KEYS),
    **dict.fromkeys(("ssl-key-file", "ssl-cert-file"), TLS),
    **dict.fromkeys(("tools", "tools-runtime", "agent", "ag", "no-agent", "no-ag"), SHELL),
    **dict.fromkeys(("ui-mcp-proxy", "webui-mcp-proxy", "no-ui-mcp-proxy", "no-webui-mcp-proxy"), SHELL),
    **dict.fromkeys(("mcp-servers-config", "mcp-servers-json"), SHELL),
}


def _option(key: str) -> str:
    bare = key.lstrip("-")
    if key != bare:
        raise ValueError(f'"{key}" has dashes in front: write "{bare}"')
    if key in REFUSED:
        raise ValueError(f'"{key}" is not allowed in a preset: {REFUSED[key]}')
    if not OPTION.fullmatch(key):
        hyphens = key.lower().replace("_", "-")
        better = f'write "{hyphens}"' if OPTION.fullmatch(hyphens) and not key.isupper() else 'write a long option such as "ctx-size"'
        raise ValueError(f'"{key}" is not an option of llama-server: {better}')
    return key


class Several(str):
    """The values of an option that takes several. As text they have commas between them, as most options take them."""

    items: tuple[str, ...]

    def __new__(cls, items: Iterable[str | int | float]) -> Several:
        texts = tuple(map(str, items))
        made = super().__new__(cls, ",".join(texts))
        made.items = texts
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        item = core_schema.union_schema([core_schema.str_schema(), core_schema.int_schema(), core_schema.float_schema()])
        items = core_schema.no_info_before_validator_function(_items, core_schema.tuple_variable_schema(item, min_length=1))
        return core_schema.no_info_after_validator_function(cls, items)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1}


def _items(value: object) -> object:
    return value.items if isinstance(value, Several) else value


def uncut(value: object) -> str:
    """Why a router's preset file cannot hold a value that a command line can; empty where it can."""
    text = str(value)
    if found := re.search("[;#]", text):
        return f'has "{found[0]}" in it, where llama-server\'s preset file would cut the value: {UNQUOTED}'
    if text != text.strip(" "):
        return f'"{text}" has a space at one end, which llama-server\'s preset file would lose: {UNQUOTED}'
    return ""


def _value(value: str | int | float | bool) -> str | int | float | bool:
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError("has a line break or another control character in it, which neither a preset file nor a unit can hold")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a number that an option accepts")
    return value


PresetOption = Annotated[str, AfterValidator(_option)]
PresetValue = Annotated[str | int | float | bool | Several, AfterValidator(_value)]

Preset = dict[PresetOption, PresetValue]
"""llama-server's long options without dashes, and their values: `{ctx-size: 8192, flash-attn: on, lora: [/srv/a.gguf, /srv/b.gguf]}`."""

ON, OFF = frozenset(("on", "enabled", "true", "1")), frozenset(("off", "disabled", "false", "0"))
"""How llama.cpp reads a truth (common/arg.cpp: is_truthy, is_falsey)."""


def is_on(value: object) -> bool:
    """Whether an option with this value is switched on: `metrics: on`, `metrics: true`."""
    return str(value).lower() in ON


def sleep_s(preset: Mapping[str, object]) -> int:
    """After how many seconds without a question a model falls asleep; less than 0 is never. Raises ValueError where that is no number."""
    said = preset.get("sleep-idle-seconds", -1)
    try:
        return int(said)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"sleep-idle-seconds: {said} is no number of seconds: -1 is never") from None


def purpose(preset: Mapping[str, object]) -> Literal["chat", "embedding", "rerank"]:
    """What a model that is served so is for. llama-server answers one kind of question where it embeds or ranks."""
    if any(is_on(preset.get(option)) for option in ("rerank", "reranking")) or preset.get("pooling") == "rank":
        return "rerank"
    return "embedding" if any(is_on(preset.get(option)) for option in ("embeddings", "embedding")) else "chat"


def layered(*presets: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """One laid on the other. What a later one says also stands later: under two names of one option, the last is what counts."""
    found: dict[str, str | int | float | bool] = {}
    for preset in presets:
        for option, value in preset.items():
            found.pop(option, None)
            found[option] = value
    return found
