"""Models on their way to a host: what is small in the archive with the files, what is large piece by piece, the rest by the host's curl."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from shlex import quote

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from control.work import Asked, Work, asked_of
from deploys.applying import Steps, command
from inventory.urls import without_query
from roles.resources import ModelFile

PROGRESS = logging.getLogger("paddock.progress")

PIECE = 32 << 20
"""Bytes of a model in one archive. What is no larger travels with the files."""


def room(work: Work) -> Steps:
    """Sees that there is room for all models that are to come, the tiny one aside."""
    steps = Steps()
    to_come = [each for each in _wrong(work) if each.size and each.origin not in ("host", "tiny")]
    if to_come:
        steps.add("room", *(word for each in to_come for word in (each.path, each.size)))
    return steps


def land(steps: Steps, model: ModelFile, work: Work) -> None:
    """Adds what a host does to have a model's file, all but what `uploads` does."""
    local = work.payload.get(model.id)
    if local and is_large(local):
        return
    asks = work.asks.get(model.id) or asked_of(model)
    if local:
        how, staged = "staged", [steps.pack(local.read_bytes(), mode=0o644)]
    else:
        how, staged = "asked" if asks else "host", [steps.pack(curl_configuration(each).encode()) for each in asks]
    steps.add("model", model.path, model.sha256, model.size, how, *staged)


def uploads(role: str, work: Work) -> Iterator[tuple[ModelFile, Path]]:
    """The models that are too large for an archive, each with its file on this machine."""
    for each in work.drift.of(role):
        if isinstance(each, ModelFile) and (local := work.payload.get(each.id)) and is_large(local):
            yield each, local


@operation()
def uploaded(model: ModelFile, local: Path) -> Generator[StringCommand, None, None]:
    """Sends what does not lie on the host yet of a file on this machine, piece by piece; the last is put into place with all before."""
    total, steps = local.stat().st_size, Steps()
    with local.open("rb") as file:
        done = min(host.get_fact(Held, path=f"{model.path}.part"), total)
        file.seek(done)
        while piece := file.read(PIECE):
            steps = Steps()
            steps.add("append", model.path, done, steps.pack(piece))
            yield command(steps)
            done += len(piece)
            PROGRESS.info("%s: %s: %d of %d MiB", host.name, Path(model.path).name, done >> 20, total >> 20)
    steps = Steps()
    steps.add("model", model.path, model.sha256, model.size, "appended")
    yield command(steps)


class Held(FactBase[int]):
    """The bytes of a file that lie on the host already; 0 where there is none."""

    @staticmethod
    def default() -> int:
        return 0

    def command(self, path: str) -> str:
        return f"stat -c %s -- {quote(path)} 2>/dev/null || echo 0"

    def process(self, output: list[str]) -> int:
        return int(output[0])


def curl_configuration(asked: Asked) -> str:
    """What curl reads with -K: the URL and the token are no arguments, which every account of the host can read.

    curl sends an Authorization header on to no other host than the one that it was given for (since 7.58).
    """
    lines = [f"# {without_query(asked.url)}", f"# {asked.hint}", f"url = {_quoted(asked.url)}"]
    if asked.token:
        lines.append(f"header = {_quoted(f'Authorization: Bearer {asked.token}')}")
    if asked.near:
        lines.append('noproxy = "*"')
    return "\n".join([*lines, ""])


def is_large(local: Path) -> bool:
    return local.stat().st_size > PIECE


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wrong(work: Work) -> list[ModelFile]:
    return [each for each in work.wrong(ModelFile) if isinstance(each, ModelFile)]
