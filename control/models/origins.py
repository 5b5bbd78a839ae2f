"""How each kind of source is asked for a model: a kind is a subclass of `Origin` with its entry in ORIGINS here, and a class in
inventory/model_sources.py, named among the bases of `ModelSource`.

What only asking needs (requests, gguf) is loaded when something is asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from inventory.errors import PaddockError
from inventory.model_components import Component
from inventory.model_lock import unknown
from inventory.model_sources import FromUrl, HuggingFace, Local, ModelPart, ModelSource, OnHost, SourceKind, Tiny, source_kind_of
from resources import ModelFile

if TYPE_CHECKING:
    from inventory.model_shape import ModelShape

HF_TOKEN = "hf-token"
"""The secret that holds the fleet's token for Hugging Face."""

NO_TOKEN = "is the repository right? For a private or gated repository, store a token with access: `paddock secrets set hf-token`"
KNOWN_TOKEN = "is the repository right, and does the token in the secret hf-token have access to it?"


@dataclass(frozen=True)
class Request:
    """A request for a file over HTTP. `token` goes to that very host and to none that it passes on to."""

    url: str
    token: str = field(default="", repr=False)
    hint: str = ""
    """What to do where it says that nobody, or not everybody, may have it."""
    near: bool = False
    """Another host of the fleet, to which no proxy leads."""


class Means(NamedTuple):
    """What asking takes: the directory that local files are found from, the inventory's, and the fleet's secrets."""

    beside: Path
    secrets: Mapping[str, str]


class Origin:
    """How one kind of source is asked for a component of a model."""

    def token(self, secrets: Mapping[str, str]) -> str:
        """What it has to be shown, empty where that is nothing. Raises PaddockError where the secret is no token."""
        return ""

    def asked(self, where: str, token: str) -> tuple[Request, ...]:
        """How a host asks for a file; nothing where it has it from this machine, or has it. `where` follows the word in its origin."""
        return ()

    def file_here(self, component: Component, beside: Path, part: int) -> Path | None:
        """The file that a host is sent from this machine, by its number; None where it is sent none. Raises PaddockError."""
        return None

    def pinned(self, component: Component, means: Means) -> tuple[str, tuple[ModelPart, ...]]:
        """What it is at this moment: the commit, where there is such a thing, and the files. Raises PaddockError."""
        raise PaddockError(f"{component.where}.source: what lies there cannot be asked: give its sha256")

    def shape(self, component: Component, means: Means) -> ModelShape:
        """What its header says. Raises PaddockError where nobody here can read it."""
        raise NotImplementedError


class _Tiny(Origin):
    def file_here(self, component: Component, beside: Path, part: int) -> Path:
        from control.models.local import tiny_model

        return tiny_model()

    def shape(self, component: Component, means: Means) -> ModelShape:
        from control.models.gguf import local_shape
        from control.models.local import tiny_model

        return local_shape(tiny_model())


class _HuggingFace(Origin):
    def token(self, secrets: Mapping[str, str]) -> str:
        return hf_token(secrets)

    def asked(self, where: str, token: str) -> tuple[Request, ...]:
        return (Request(resolve_url(*where.split(" ", 2)), token, KNOWN_TOKEN if token else NO_TOKEN),)

    def pinned(self, component: Component, means: Means) -> tuple[str, tuple[ModelPart, ...]]:
        from control.models.hugging_face import pinned

        return pinned(component, self.token(means.secrets))

    def shape(self, component: Component, means: Means) -> ModelShape:
        from control.models.gguf import remote_shape

        source = _written(component)
        first = next(iter((*source.named, *(each.name for each in source.digests))), None)
        if first is None:
            raise PaddockError(f"{component.where}.source: {unknown(component.name.partition('+')[0])}")
        return remote_shape(resolve_url(str(source.hf), source.revision or "main", first), token=self.token(means.secrets))


class _Url(Origin):
    def asked(self, where: str, token: str) -> tuple[Request, ...]:
        return (Request(where, hint="is the address right, and does it want a login?"),)

    def pinned(self, component: Component, means: Means) -> tuple[str, tuple[ModelPart, ...]]:
        return "", tuple(self._pinned(each, component.begins_with) for each in _written(component).named)

    @staticmethod
    def _pinned(url: str, begins_with: bytes) -> ModelPart:
        """All of it is read, once, and nothing is kept."""
        from control.fetching.download import digest_at
        from control.fetching.progress import Download

        sha256, size = digest_at(url, Download(), begins_with=begins_with)
        return ModelPart(name=url.partition("?")[0].rpartition("/")[2] or "model.gguf", sha256=sha256, size=size)

    def shape(self, component: Component, means: Means) -> ModelShape:
        from control.models.gguf import remote_shape

        return remote_shape(_written(component).named[0])


class _Local(Origin):
    def file_here(self, component: Component, beside: Path, part: int) -> Path:
        from control.models.local import local_model

        return local_model(component, beside, part)

    def pinned(self, component: Component, means: Means) -> tuple[str, tuple[ModelPart, ...]]:
        return "", tuple(self._pinned(component, each, means.beside) for each in _written(component).named)

    @staticmethod
    def _pinned(component: Component, where: str, beside: Path) -> ModelPart:
        from control.models.gguf import is_gguf
        from control.models.local import digest_of, local_file

        file = local_file(component, where, beside)
        found = digest_of(file)
        if not found.size:
            raise PaddockError(f"{component.where}.source.local: {where} is empty: put the model there, or name another file")
        if not component.is_text and not is_gguf(file):
            raise PaddockError(f"{component.where}.source.local: {where} is not a GGUF: name the model's file")
        return ModelPart(name=Path(where).name, sha256=found.sha256, size=found.size)

    def shape(self, component: Component, means: Means) -> ModelShape:
        from control.models.gguf import local_shape
        from control.models.local import local_file

        return local_shape(local_file(component, _written(component).named[0], means.beside))


class _OnHost(Origin):
    def shape(self, component: Component, means: Means) -> ModelShape:
        raise PaddockError(
            f"{component.where}: the file exists only on the host ({_written(component).path}), so its header cannot be read here"
        )


ORIGINS: Mapping[type[SourceKind], Origin] = {
    Tiny: _Tiny(),
    HuggingFace: _HuggingFace(),
    FromUrl: _Url(),
    Local: _Local(),
    OnHost: _OnHost(),
}

BY_WORD = {kind.origin_word: origin for kind, origin in ORIGINS.items()}


def origin_of(component: Component) -> Origin:
    return ORIGINS[source_kind_of(component.source)]


def origin_of_file(model: ModelFile) -> Origin:
    return BY_WORD[model.origin.partition(" ")[0]]


def asked_of(model: ModelFile, token: str = "") -> tuple[Request, ...]:
    """How a model's file is asked for where it comes from; nothing where that is no address. `token` is for that alone."""
    return origin_of_file(model).asked(model.origin.partition(" ")[2], token)


def _written(component: Component) -> ModelSource:
    assert isinstance(component.source, ModelSource)
    return component.source


def hugging_face() -> str:
    """HF_ENDPOINT names a mirror of it."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def resolve_url(repository: str, revision: str, name: str) -> str:
    """Where a repository of Hugging Face has a file: `https://huggingface.co/ORG/REPOSITORY/resolve/REVISION/Q8_0/model.gguf`"""
    return f"{hugging_face()}/{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"


def hf_token(secrets: Mapping[str, str]) -> str:
    """The fleet's token for Hugging Face, empty where it has none. Raises PaddockError where it is none that a header could carry."""
    token = secrets.get(HF_TOKEN, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise PaddockError(
            f"the secret {HF_TOKEN} is not a token: it has spaces or other invalid characters: `paddock secrets set {HF_TOKEN}`"
        )
    return token
