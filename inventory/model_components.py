"""What a model is made of: its own files, and those that options of llama-server name for it. All of them come to hosts alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from inventory.model_sources import AnyModelSource, ModelSource, parts_of
from roles.role import Settings


class OptionFile(Settings):
    """A file that an option of llama-server names."""

    source: ModelSource
    """The source of the file, as of a model."""


class ScaledFile(OptionFile):
    """One of several files, with the weight that it is applied with."""

    scale: Annotated[float, Field(ge=-100, le=100)] = 1.0
    """How strongly it is applied."""

    @model_validator(mode="after")
    def _one_of_several(self) -> ScaledFile:
        if found := re.search("[,:]", self.source.path or ""):
            raise ValueError(f'{self.source.path} has "{found[0]}" in it, by which llama-server tells several files apart: rename it')
        return self


OPTIONS: Mapping[str, tuple[str, ...]] = {
    "mmproj": ("mmproj", "mm"),
    "draft": ("model-draft", "spec-draft-model", "md"),
    "lora": ("lora", "lora-scaled"),
    "control_vector": ("control-vector", "control-vector-scaled"),
    "chat_template_file": ("chat-template-file",),
    "grammar_file": ("grammar-file",),
    "json_schema_file": ("json-schema-file", "jf"),
}
"""Key of a model → the options that name such a file, first the one that Paddock gives (common/arg.cpp)."""

TEXTS: Mapping[str, str] = {"chat_template_file": ".jinja", "grammar_file": ".gbnf", "json_schema_file": ".json"}
"""The keys whose files are no GGUFs, and how the name of one ends."""

FIRST_BYTES = b"GGUF"


@dataclass(frozen=True)
class Component:
    """A model's own files, or a file (with its parts) that an option names. `where` leads to it in the inventory: `models.chat.lora.1`."""

    name: str
    """In the lock, and on hosts: `chat`, `chat+mmproj`, `chat+lora-2`. No model has a plus in its name."""
    where: str
    source: AnyModelSource
    key: str = ""
    """Of the model, `lora`; empty of its own files."""
    scale: float = 1.0

    @property
    def is_text(self) -> bool:
        return self.key in TEXTS

    @property
    def begins_with(self) -> bytes:
        """What the file begins with; nothing where that may be anything."""
        return b"" if self.is_text else FIRST_BYTES

    @property
    def laid_as(self) -> tuple[str, ...]:
        """What its files are called on a host, seen from the directory of its models: `chat.gguf`, `chat/chat-00001-of-00003.gguf` …"""
        many = len(self.source.digests or self.source.named) if isinstance(self.source, ModelSource) else 1
        if many > 1:
            return parts_of(f"{self.name}/{self.name}-00001-of-{many:05d}.gguf")
        return (f"{self.name}{TEXTS.get(self.key, '.gguf')}",)


def named_by_options(paths: Mapping[Component, str]) -> dict[str, str]:
    """The options that name these components at their paths on a host: `{"mmproj": "/…/chat+mmproj.gguf"}`. Of several files with weights
    it is the option that takes them: `a.gguf:0.5,b.gguf:1`."""
    found: dict[str, str] = {}
    for key in dict.fromkeys(each.key for each in paths):
        several = {each: path for each, path in paths.items() if each.key == key}
        option, *others = OPTIONS[key]
        if any(each.scale != 1 for each in several):
            option, several = others[0], {each: f"{path}:{each.scale:g}" for each, path in several.items()}
        found[option] = ",".join(several.values())
    return found
