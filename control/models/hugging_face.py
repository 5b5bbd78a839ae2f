"""What lies in a repository of Hugging Face: its commit, and of each file the size and the sha256 (that of Git LFS).

https://huggingface.co/docs/hub/api. HF_ENDPOINT names a mirror.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from control.fetching.download import digest_at, reason
from control.fetching.session import Session
from control.models.origins import KNOWN_TOKEN, NO_TOKEN, hugging_face, resolve_url
from inventory import bounds
from inventory.errors import PaddockError
from inventory.model_components import Component
from inventory.model_sources import BesideModel, ModelPart, ModelSource, parts_of
from roles.wording import did_you_mean

LISTED_S = 600
"""For all pages of a list."""

NO_MODEL_ITSELF = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""What lies beside models and is none, by what stands in a file's name (common/download.cpp: gguf_filename_is_model)."""

SHARD, TAG = re.compile(r"-[0-9]{5}-of-[0-9]{5}$"), re.compile(r"[-.]([A-Za-z0-9_]+)$")


def pinned(component: Component, token: str = "") -> tuple[str, tuple[ModelPart, ...]]:
    """The commit, and the files that the source means. Raises PaddockError in words."""
    source = component.source
    assert isinstance(source, ModelSource)
    repository = _Repository(f"{component.where}.source.hf", str(source.hf), token)
    try:
        commit = repository.commit(source.revision or "main")
        files = {each["path"]: each for each in repository.files(commit)}
        return commit, tuple(repository.part(files[name], component, commit) for name in chosen(component, list(files), repository.where))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise PaddockError(f"{repository.where}: {_no_hub()} ({type(error).__name__}: {error})".replace("\n", " ")) from None


def chosen(component: Component, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Of the files of a repository those of the one component that is meant, in the order of its parts. Raises PaddockError."""
    source = component.source
    assert isinstance(source, ModelSource)
    if isinstance(source, BesideModel):
        return (projector(source, names, where.removesuffix(".source.hf")),)
    if source.file:
        if missing := [name for name in source.named if name not in names]:
            raise PaddockError(f"{where}: {source.hf} has no file {missing[0]}{did_you_mean(missing[0], names)}")
        return source.named
    fit = dict.fromkeys(name for name in names if (component.is_text or name.endswith(".gguf")) and _fits(name, source.include))
    whole = [parts for parts in map(parts_of, fit) if all(part in fit for part in parts)]
    later = {part for parts in whole for part in parts[1:]}
    models = [parts for parts in whole if parts[0] not in later]
    if len(models) == 1:
        return models[0]
    what = f"fits {source.include}" if source.include else "is a model"
    if not models:
        raise PaddockError(f"{where}: nothing in {source.hf} {what}: there are {_some(each for each in names if each.endswith('.gguf'))}")
    raise PaddockError(f"{where}: {len(models)} models in {source.hf} fit: name one with `file`: {_some(parts[0] for parts in models)}")


def projector(source: BesideModel, names: Sequence[str], where: str) -> str:
    """The projector that llama-server would take for a model, of a repository's files (common/download.cpp: find_best_sibling): of those in
    the model's directory or above it the nearest, then the one whose bits a weight are nearest to the model's. Raises PaddockError."""
    model = source.of if source.of in names else chosen(_model_of(source), names, where)[0]
    found = [name for name in names if name.endswith(".gguf") and "mmproj" in name and _directory(model).startswith(_directory(name))]
    if not found:
        raise PaddockError(f"{where}: {source.hf} has no projector (mmproj…gguf) beside {model}: name it with `source`")
    return min(found, key=lambda name: (-len(_directory(name)), abs(_bits(name) - _bits(model))))


def _model_of(source: BesideModel) -> Component:
    """The model that a projector is for."""
    return Component("", "", ModelSource(hf=source.hf, revision=source.revision, include=source.of or None))


def _directory(name: str) -> str:
    """`Q8_0/x.gguf` → `Q8_0/`"""
    return name[: name.rfind("/") + 1]


def _bits(name: str) -> int:
    """Of a quantization, as its file's name ends: `mmproj-BF16.gguf` → 16; 0 where it does not say it (get_gguf_split_info)."""
    tag = TAG.search(SHARD.sub("", name.removesuffix(".gguf")))
    digits = re.search(r"[0-9]+", tag[1]) if tag else None
    return int(digits[0]) if digits else 0


def _no_hub() -> str:
    return f"{hugging_face()} sends something else than a list of files: is HF_ENDPOINT right, and no login in between?"


def _fits(name: str, pattern: str | None) -> bool:
    last = name.rpartition("/")[2]
    if pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(last, pattern)
    return not any(word in last for word in NO_MODEL_ITSELF)


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "") or "no GGUF files at all"


class _Repository:
    """`where` is how the inventory calls it: `models.chat.source.hf`."""

    def __init__(self, where: str, name: str, token: str) -> None:
        self.where, self.name, self.token = where, name, token
        self.session = Session(bounds.LISTING)
        self.api = f"{hugging_face()}/api/models/{name}"

    def commit(self, revision: str) -> str:
        answer, _ = self._get(f"{self.api}/revision/{quote(revision, safe='')}", revision)
        return str(answer["sha"])

    def files(self, commit: str) -> Iterator[dict[str, Any]]:
        url, listed, end = f"{self.api}/tree/{commit}?recursive=true", 0, time.monotonic() + LISTED_S
        while True:
            answer, following = self._get(url, commit)
            listed += len(answer) or 1  # a page with nothing on it counts too: they are no way to go on for ever
            if listed > bounds.LISTING.items:
                words = f"{self.name} has more than {bounds.LISTING.items:,} files and folders, so it is no repository of models"
                raise PaddockError(f"{self.where}: {words}: give the file's address with `url`, or its digest with `file` and `sha256`")
            yield from (each for each in answer if each["type"] == "file")
            if not following:
                return
            if time.monotonic() > end:
                raise PaddockError(f"{self.where}: {hugging_face()} does not come to an end of its list of files")
            if _origin(following) != _origin(self.api):
                raise PaddockError(f"{self.where}: {hugging_face()} names a next page elsewhere, {following}: nothing is asked of that")
            url = following

    def part(self, file: dict[str, Any], component: Component, commit: str) -> ModelPart:
        """One of its files. Of a small text, which git itself keeps, nobody says the sha256: it is read."""
        lfs = file.get("lfs") or {}
        if lfs.get("oid"):
            return ModelPart(name=file["path"], sha256=lfs["oid"], size=lfs["size"])
        if not component.is_text:
            words = f"the repository does not say the sha256 of {file['path']}: give it yourself, with `file` and `sha256`"
            raise PaddockError(f"{self.where}: {words}")
        url = resolve_url(self.name, commit, file["path"])
        sha256, size = digest_at(url, begins_with=component.begins_with, auth=bearer(self.token))
        return ModelPart(name=file["path"], sha256=sha256, size=size)

    def _get(self, url: str, revision: str) -> tuple[Any, str]:
        """The JSON there, and where the next page of it lies."""
        try:
            answer = self.session.get(url, auth=bearer(self.token))
            if answer.status_code in (401, 403, 404):
                hint = KNOWN_TOKEN if self.token else NO_TOKEN
                raise PaddockError(f"{self.where}: {hugging_face()} answers {answer.status_code} for {self.name} at {revision}: {hint}")
            answer.raise_for_status()
            return bounds.from_json(answer.content), answer.links.get("next", {}).get("url", "")
        except requests.RequestException as error:
            raise PaddockError(f"{self.where}: {hugging_face()}: {reason(error)}") from None
        except ValueError:
            raise PaddockError(f"{self.where}: {_no_hub()}") from None


def _origin(url: str) -> tuple[str, str]:
    """A token goes to one origin."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Sends the token along, to the host that is asked: requests takes the header away where it is sent on to another."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign
