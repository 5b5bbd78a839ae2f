"""The service's configuration: the JSON file that Paddock writes, checked against configuration.schema.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("configuration.schema.json")


class ConfigurationError(Exception):
    """The file that cannot be used, and why, in one line."""


@dataclass(frozen=True)
class Server:
    """A llama-server of this host, at `unix:/run/…` or `http://127.0.0.1:8080`. `account` is whose own service it is, none of the
    system's."""

    unit: str
    url: str
    models: tuple[str, ...]
    router: bool
    account: str = ""


@dataclass(frozen=True)
class Configuration:
    """`key` is the file with the key that callers have to show, `presets` the router's INI file."""

    key: Path
    presets: Path
    servers: tuple[Server, ...]


def configuration(path: Path) -> Configuration:
    """Raises ConfigurationError where the file cannot be read or does not fit the schema."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: this is no JSON: {error}") from None
    if found := list(misfits(said, schema)):
        raise ConfigurationError(f"{path}: {'; '.join(found)}: `paddock up` writes this file anew")
    servers = tuple(Server(**{**each, "models": tuple(each["models"])}) for each in said["servers"])
    return Configuration(Path(said["key"]), Path(said["presets"]), servers)


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def misfits(value: Any, schema: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """What of a JSON value does not fit: `servers/0/url: should be a string`. Knows only the keywords that the service's schema uses."""
    place = f"{at}: " if at else ""
    if type(value) is not TYPES[schema["type"]]:
        yield f"{place}should be of type {schema['type']}"
    elif isinstance(value, dict):
        known = schema["properties"]
        yield from (f"{place}{name} is missing" for name in schema["required"] if name not in value)
        yield from (f"{place}{name[:64]!r} is not known" for name in value if name not in known)
        for name in (name for name in known if name in value):
            yield from misfits(value[name], known[name], f"{at}/{name}".lstrip("/"))
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place}should not be empty"
        for number, each in enumerate(value):
            yield from misfits(each, schema["items"], f"{at}/{number}")
    elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place}should match {schema['pattern']}"
    elif "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        yield f"{place}should be from {schema['minimum']} to {schema['maximum']}"
