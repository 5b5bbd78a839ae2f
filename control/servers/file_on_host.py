"""The header of a model's file on a host, read by ranges over SSH."""

from __future__ import annotations

import base64
import shlex

from control.models.gguf import shape_of
from control.models.gguf_front import Front
from control.ssh.reach import Reach
from inventory.model_shape import ModelShape


class HostFront(Front):
    """The front of a file on a host. Only root can read it there."""

    def __init__(self, reach: Reach, host: str, path: str) -> None:
        super().__init__(path)
        self.reach, self.host, self.path = reach, host, path

    def more(self, end: int) -> None:
        start = len(self.data)
        script = f"tail -c +{start + 1} {shlex.quote(self.path)} | head -c {end - start} | base64"
        self.data += base64.b64decode("".join(self.reach.shell(self.host, script, self.path)))


def shape_on_host(reach: Reach, host: str, path: str) -> ModelShape:
    """The shape of the model in a file on a host. Raises PaddockError where it is not a GGUF, or the host does not answer."""
    return shape_of(path, lambda name: HostFront(reach, host, name))
