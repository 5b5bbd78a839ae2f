"""The models' files on a host: those of each model that its llama-servers name, and those that options name for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from posixpath import dirname

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge, ModelDigest
from inventory.model_lock import unknown
from inventory.model_sources import AnyModelSource, ModelSource, Tiny
from resources import Directory, ModelFile, Resource
from roles.models.settings import ModelsSettings

TO_BE_WRITTEN = "0" * 64
"""Stands for the digest of the tiny model where it has not been written yet."""


def plan(host: Host, settings: ModelsSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    """Raises PaddockError where nothing says which files a model is."""
    yield Directory(settings.directory)
    for name, entry in fleet.served_models(host.name).items():
        for each in entry.components(name):
            if isinstance(each.source, ModelSource) and not each.source.digests:
                raise PaddockError(f"{each.where}.source: {unknown(name)}")
            yield from _files(each.source, fleet.paths(host.name, each), knowledge.models.get(each.name))


def _files(source: AnyModelSource, paths: Sequence[str], known: ModelDigest | None) -> Iterator[Resource]:
    if not isinstance(source, ModelSource):
        yield ModelFile(paths[0], known.sha256 if known else TO_BE_WRITTEN, known.size if known else 0, origin=Tiny.origin_word, keep=False)
        return
    if len(paths) > 1 and not source.on_host:
        yield Directory(dirname(paths[0]))
    for at, (path, part) in enumerate(zip(paths, source.digests, strict=True)):
        size = part.size or (known.size if known and len(paths) == 1 else 0)
        yield ModelFile(path, part.sha256, size, origin=source.origin_of(at))
