"""Models of this machine, and images, that are too large for an archive: sent piece by piece."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from shlex import quote

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from control.deployment.work import Work
from deploys.applying import command
from resources import Image, ModelFile
from resources.model import PIECE, is_large
from resources.steps import Steps

PROGRESS = logging.getLogger("paddock.progress")


def uploads(role: str, work: Work) -> Iterator[tuple[ModelFile | Image, Path | None]]:
    """What is too large for an archive, each with its file on this machine; None of a model that comes under another name before."""
    sent = set()
    for change in work.drift.of(role):
        each = change.resource
        if isinstance(each, ModelFile) and (local := work.payload.get(each.id)) and is_large(local):
            yield each, None if each.sha256 in sent else local
            sent.add(each.sha256)
        elif isinstance(each, Image) and (local := work.payload.get(each.id)):
            yield each, local


@operation()
def uploaded(large: ModelFile | Image, local: Path | None) -> Generator[StringCommand, None, None]:
    """Sends what does not lie on the host yet of a file on this machine, piece by piece; the last is put into place with all before."""
    if local:
        yield from _sent(large, local)
    steps = Steps()
    large.complete(steps, local)
    yield command(steps)


def _sent(large: ModelFile | Image, local: Path) -> Generator[StringCommand, None, None]:
    total = local.stat().st_size
    with local.open("rb") as file:
        done = min(host.get_fact(BytesThere, path=large.part), total)
        file.seek(done)
        while piece := file.read(PIECE):
            steps = Steps()
            large.append(steps, done, piece)
            yield command(steps)
            done += len(piece)
            PROGRESS.info("%s: %s: %d of %d MiB", host.name, large.label, done >> 20, total >> 20)


class BytesThere(FactBase[int]):
    """The bytes of a file that lie on the host already; 0 where there is none, or where the host says no number."""

    @staticmethod
    def default() -> int:
        return 0

    def command(self, path: str) -> str:
        return f"stat -c %s -- {quote(path)} 2>/dev/null || echo 0"

    def process(self, output: list[str]) -> int:
        said = " ".join(output)
        return int(said) if re.fullmatch("[0-9]{1,18}", said) else 0
