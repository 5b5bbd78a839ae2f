"""What lies in a repository of Hugging Face: its commit, and of each file the size and the sha256 (that of Git LFS).

https://huggingface.co/docs/hub/api. HF_ENDPOINT names a mirror.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from control.fetching.download import reason
from control.fetching.session import Session
from control.models.origins import KNOWN_TOKEN, NO_TOKEN, hugging_face
from inventory import bounds
from inventory.errors import PaddockError
from inventory.model_sources import ModelPart, ModelSource, parts_of
from roles.wording import did_you_mean

LISTED_S = 600
"""For all pages of a list."""

NO_MODEL_ITSELF = ("mmproj", "imatrix")
"""What lies beside models and is none: how a file's name begins, or what stands in it."""


def pinned(model: str, source: ModelSource, token: str = "") -> tuple[str, tuple[ModelPart, ...]]:
    """The commit, and the files that the source means. Raises PaddockError in words."""
    repository = _Repository(f"models.{model}.source.hf", str(source.hf), token)
    try:
        commit = repository.commit(source.revision or "main")
        files = {each["path"]: each for each in repository.files(commit)}
        return commit, tuple(_part(files[name], repository.where) for name in chosen(source, list(files), repository.where))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise PaddockError(f"{repository.where}: {_no_hub()} ({type(error).__name__}: {error})".replace("\n", " ")) from None


def chosen(source: ModelSource, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Of the files of a repository those of the one model that is meant, in the order of its parts. Raises PaddockError."""
    if source.file:
        if missing := [name for name in source.named if name not in names]:
            raise PaddockError(f"{where}: {source.hf} has no file {missing[0]}{did_you_mean(missing[0], names)}")
        return source.named
    fit = dict.fromkeys(name for name in names if name.endswith(".gguf") and _fits(name, source.include))
    whole = [parts for parts in map(parts_of, fit) if all(part in fit for part in parts)]
    later = {part for parts in whole for part in parts[1:]}
    models = [parts for parts in whole if parts[0] not in later]
    if len(models) == 1:
        return models[0]
    what = f"fits {source.include}" if source.include else "is a model"
    if not models:
        raise PaddockError(f"{where}: nothing in {source.hf} {what}: there are {_some(each for each in names if each.endswith('.gguf'))}")
    raise PaddockError(f"{where}: {len(models)} models in {source.hf} fit: name one with `file`: {_some(parts[0] for parts in models)}")


def _no_hub() -> str:
    return f"{hugging_face()} sends something else than a list of files: is HF_ENDPOINT right, and no login in between?"


def _fits(name: str, pattern: str | None) -> bool:
    last = name.rpartition("/")[2]
    if pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(last, pattern)
    return not any(word in last.lower() for word in NO_MODEL_ITSELF)


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "") or "no GGUF files at all"


def _part(file: dict[str, Any], where: str) -> ModelPart:
    lfs = file.get("lfs") or {}
    if not lfs.get("oid"):
        raise PaddockError(f"{where}: the repository does not say the sha256 of {file['path']}: give it yourself, with `file` and `sha256`")
    return ModelPart(name=file["path"], sha256=lfs["oid"], size=lfs["size"])


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
