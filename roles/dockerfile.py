"""The Dockerfile of an image that llama-server runs from: a release on a base image."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from resources import LocalImage, Release
from roles.role import render

IMAGE = "paddock/llama.cpp"
"""What images with a release are called, each by a tag."""

SECRETS = "/run/secrets"
"""Where in the container the files with secret variables lie, `NAME=value` a line."""

ENTRYPOINT = f'umask 7; set -a; for each in {SECRETS}/*.env; do [ ! -r "$each" ] || . "$each"; done; set +a; exec "$@"'


def dockerfile(release: Release, base: str, **building: Any) -> str:
    """The text: of a release that lies in the build's context, or that a stage before it compiles, of which `building` tells."""
    return render(
        "llama_cpp/Dockerfile.j2",
        version=release.version,
        profile=release.profile,
        base=base,
        name=IMAGE,
        # A base with CUDA has its libraries by other packages than the host.
        packages=[each for each in release.runtime_packages if release.backend != "cuda" or not each.startswith("libcu")],
        path=release.path,
        current=release.current,
        environment=release.environment,
        entrypoint=json.dumps(["/bin/sh", "-c", ENTRYPOINT, "sh"]),
        **{"builder": "", **building},
    )


def image(release: Release, base: str, path: str) -> LocalImage:
    """What a host builds of its release, by the Dockerfile that lies there at `path`."""
    inputs = hashlib.sha256(f"{dockerfile(release, base)}\0{release.fingerprint}".encode()).hexdigest()[:16]
    return LocalImage(IMAGE, f"{release.name}-{inputs[:8]}", path, release.path, inputs, base)
