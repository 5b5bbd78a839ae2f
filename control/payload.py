"""The files that travel to a host besides text: sources, models that lie here, package files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from control.artifacts import Artifacts
from control.state import FleetState
from control.work import TINY, Asked, Work, asked_of
from inventory.errors import PaddockError
from inventory.schema import Fleet
from roles.caddy.settings import CaddySettings
from roles.resources import ModelFile, Package, Release

PROGRESS = logging.getLogger("paddock.progress")
MIB = 1 << 20
HF_TOKEN = "hf-token"


def payload_for(work: Work, host: str, fleet: Fleet, state: FleetState) -> dict[str, Path]:
    """Resource id → its file on this machine, of what the host lacks. Fetches what is not here yet. Raises PaddockError."""
    return dict(_payload(work, host, fleet, state))


def _payload(work: Work, host: str, fleet: Fleet, state: FleetState) -> Iterator[tuple[str, Path]]:
    from control.models import local_model, tiny_model
    from control.packages import package_file

    beside = state.inventory.parent
    for release in work.missing:
        yield release.id, Artifacts(state).archive(release.name)
    if work.wrong(Release):
        yield TINY, tiny_model()
    for package in work.wrong(Package):
        if isinstance(package, Package) and package.deb:
            caddy = fleet.role(host, "caddy", CaddySettings)
            assert caddy and caddy.package
            yield package.id, package_file(caddy.package, beside, Download())
    for model in work.wrong(ModelFile):
        assert isinstance(model, ModelFile)
        if model.origin == "tiny":
            yield model.id, tiny_model()
        elif model.origin.startswith("local "):
            paths = {name: fleet.model_paths(host, name) for name in fleet.served_models(host)}
            name = next(name for name, those in paths.items() if model.path in those)
            yield model.id, local_model(name, fleet.models[name], beside, paths[name].index(model.path))


def asks_for(work: Work, secrets: Mapping[str, str]) -> dict[str, tuple[Asked, ...]]:
    """Resource id → how the host asks for it, of the models that it lacks and fetches itself. Raises PaddockError."""
    models = [each for each in work.wrong(ModelFile) if isinstance(each, ModelFile)]
    token = hf_token(secrets) if any(each.origin.startswith("hf ") for each in models) else ""
    return {each.id: asks for each in models if (asks := asked_of(each, token))}


def hf_token(secrets: Mapping[str, str]) -> str:
    """The fleet's token for Hugging Face, empty where it has none. Raises PaddockError where it is none that a header could carry."""
    token = secrets.get(HF_TOKEN, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise PaddockError(f"the secret {HF_TOKEN} is no token: it has spaces or other odd characters: `paddock secrets set {HF_TOKEN}`")
    return token


class Download:
    """Tells how far a download has come, a word every tenth of it, or every 16 MiB where nobody knows how much it is."""

    def __init__(self) -> None:
        self.told = -1

    def __call__(self, name: str, done: int, total: int) -> None:
        step = done * 10 // total if total else done // (16 * MIB)
        if step != self.told:
            self.told = step
            PROGRESS.info("%s: %d MiB%s", name, done // MIB, f" of {total // MIB}" if total else "")
