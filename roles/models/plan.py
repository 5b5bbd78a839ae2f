"""The models' files on a host: one for each model that its llama-server names."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.context import Context
from inventory.schema import Fleet, Host, ModelEntry, ModelSource
from roles.models.settings import ModelsSettings
from roles.resources import Directory, ModelFile, Resource

TO_BE_WRITTEN = "0" * 64
"""Stands for the digest of the tiny model where it has not been written yet."""


def plan(host: Host, settings: ModelsSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    yield Directory(settings.directory)
    for name, entry in fleet.served_models(host.name).items():
        yield _file(fleet.model_path(host.name, name), name, entry, context)


def _file(path: str, name: str, entry: ModelEntry, context: Context) -> ModelFile:
    source, known = entry.source, context.models.get(name)
    if not isinstance(source, ModelSource):
        return ModelFile(path, known.sha256 if known else TO_BE_WRITTEN, known.size if known else 0, origin="tiny", keep=False)
    return ModelFile(path, source.sha256, source.size or (known.size if known else 0), origin=_origin(source))


def _origin(source: ModelSource) -> str:
    if source.url:
        return f"url {source.url}"
    return f"local {source.local}" if source.local else "host"
