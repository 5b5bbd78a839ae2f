"""What every role is made of: typed settings, and text rendered from templates."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any

import jinja2
from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

TEMPLATES = Path(__file__).parent.parent / "templates"

ENDPOINT = re.compile(r"(?P<address>\[[0-9a-fA-F:]+\]|[0-9.]+):(?P<port>[0-9]{1,5})")


def _endpoint(value: str) -> str:
    match = ENDPOINT.fullmatch(value)
    if not match:
        raise ValueError(f'"{value}" is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080')
    try:
        ipaddress.ip_address(match["address"].strip("[]"))
    except ValueError:
        raise ValueError(f"{match['address']} is not an IP address") from None
    if not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"port {match['port']} is not between 1 and 65535")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""An address and a port to listen on, as text: `127.0.0.1:8080`, `[::]:443`."""


LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def _label(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        raise ValueError(f'"{value}" cannot be a name: lower-case letters, digits and inner hyphens, 63 at most')
    return value


def _domain(value: str) -> str:
    if len(value) > 253 or not all(re.fullmatch(LABEL, label) for label in value.split(".")):
        raise ValueError(f'"{value}" is no domain name, such as home.example')
    return value


Name = Annotated[str, AfterValidator(_label)]
"""What a host, a group, a client or a fleet is called: one DNS label."""

Domain = Annotated[str, AfterValidator(_domain)]
"""A DNS name: `ai.home.example`."""


@dataclass(frozen=True)
class Matches:
    """Text of one form: `pattern` for the whole of it, and what to say of text that `"…"` it does not fit."""

    pattern: str
    words: str

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f'"{value}" {self.words}')
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


CARD = r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
"""How a card is named that no other can be mistaken for: NVIDIA's UUID, or a PCI address."""


def whole_address(card: str) -> str:
    """`01:00.0` → `0000:01:00.0`; a card's other names as they are"""
    return f"0000:{card}" if len(card) == len("01:00.0") else card


Account = Annotated[str, Matches(r"[a-z_][a-z0-9_-]*", "is no name of an account: lower-case letters, digits, _ and -")]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "is no sha256: that is 64 hex digits in lower case")]
Url = Annotated[str, Matches(r"https?://[^\s]+", "is no web address: those begin with http:// or https://")]


def _local_path(value: str) -> str:
    if not value or (value.startswith("~") and value.partition("/")[0] != "~"):
        raise ValueError(f'"{value}" is no path on this machine: write it whole, relative to the inventory, or with ~/ in front')
    if len(value.encode()) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError(f'"{value}" is longer than a path can be')
    return value


LocalPath = Annotated[str, AfterValidator(_local_path)]
"""A file or directory on the control machine, as somebody wrote it: `models/small.gguf`, `~/src/llama.cpp`."""


def address_of(endpoint: str) -> str:
    """`[::1]:8080` → `::1`"""
    return endpoint.rpartition(":")[0].strip("[]")


def is_address(text: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def listed_as(address: str) -> str:
    """How ss lists a socket on it: one that takes IPv6 and IPv4 alike is `*`."""
    listed = str(ipaddress.ip_address(address))
    return "*" if listed == "::" else listed


def port_of(endpoint: str) -> int:
    """`[::1]:8080` → `8080`"""
    return int(endpoint.rpartition(":")[2])


class Settings(BaseModel):
    """Settings that somebody writes by hand: frozen, and a key nobody knows is an error. A docstring below a field is its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def meanings(settings: type[BaseModel]) -> dict[str, str]:
    """What the docstrings below the fields say, inherited fields too. It reads the source, which not every run should take the time for."""
    found = {}
    for each in reversed(settings.__mro__):
        source = ""
        if issubclass(each, Settings):
            with suppress(OSError):  # of a class that was made by a function there is none
                source = dedent(inspect.getsource(each))
        body = [statement for defined in ast.parse(source).body if isinstance(defined, ast.ClassDef) for statement in defined.body]
        for pair in pairwise(body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = inspect.cleandoc(words)
    return found


class RoleSettings(Settings):
    """What an inventory may say of one role on one host."""

    def endpoints(self) -> Iterator[str]:
        """Where this role listens, each as `ADDRESS:PORT`."""
        yield from ()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what lands are configuration files, not HTML
    )


def render(template: str, settings: Settings | None = None, **values: Any) -> str:
    """The text of `templates/<template>`, in which the settings' fields and `values` are names. An undefined name raises."""
    fields = {name: getattr(settings, name) for name in type(settings).model_fields} if settings else {}
    return _environment().get_template(template).render(**fields, **values)
