"""A program of services/ that is a project of its own, as a wheel. It is the same, byte for byte, wherever it is built."""

from __future__ import annotations

import hashlib
import zipfile
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from flit_core.wheel import WheelBuilder

from resources import Wheel

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in it: the earliest that a zip can say."""


@cache
def project_wheel(project: str) -> tuple[Wheel, bytes]:
    """The wheel of `services/<project>`, built with what is installed here: nothing is fetched."""
    packed = BytesIO()
    builder = WheelBuilder.from_ini_path(Path(str(files("services").joinpath(project))) / "pyproject.toml", packed)
    builder.build()
    data = _uncompressed(packed)
    return Wheel(builder.wheel_filename, hashlib.sha256(data).hexdigest(), len(data)), data


def _uncompressed(packed: BytesIO) -> bytes:
    """Without times and modes of this machine, and without compression: what that makes of a file hangs on the zlib that does it."""
    made = BytesIO()
    with zipfile.ZipFile(packed) as before, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as after:
        for name in before.namelist():
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            after.writestr(member, before.read(name))
    return made.getvalue()
