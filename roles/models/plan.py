"""The models' files on a host: those of each model that its llama-servers name."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import dirname

from inventory.context import Context
from inventory.errors import PaddockError
from inventory.model_lock import unknown
from inventory.schema import Fleet, Host, ModelPart, ModelSource
from roles.models.settings import ModelsSettings
from roles.resources import Directory, ModelFile, Resource

TO_BE_WRITTEN = "0" * 64
"""Stands for the digest of the tiny model where it has not been written yet."""


def plan(host: Host, settings: ModelsSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    """Raises PaddockError where nothing says which files a model is."""
    yield Directory(settings.directory)
    for name, entry in fleet.served_models(host.name).items():
        paths, source, known = fleet.model_paths(host.name, name), entry.source, context.models.get(name)
        if not isinstance(source, ModelSource):
            yield ModelFile(paths[0], known.sha256 if known else TO_BE_WRITTEN, known.size if known else 0, origin="tiny", keep=False)
            continue
        if not source.digests:
            raise PaddockError(f"models.{name}.source: {unknown(name)}")
        if len(paths) > 1 and not source.path:
            yield Directory(dirname(paths[0]))
        for at, (path, part) in enumerate(zip(paths, source.digests, strict=True)):
            size = part.size or (known.size if known and len(paths) == 1 else 0)
            yield ModelFile(path, part.sha256, size, origin=_origin(source, at, part))


def _origin(source: ModelSource, at: int, part: ModelPart) -> str:
    if source.hf:
        return f"hf {source.hf} {source.revision or 'main'} {part.name}"
    if source.url:
        return f"url {source.named[at]}"
    return f"local {source.named[at]}" if source.local else "host"
