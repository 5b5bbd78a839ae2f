"""The Dockerfile that compiles llama.cpp for a host: with the very script, options and source that a builder of the fleet would have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from resources import Release
from roles.dockerfile import IMAGE, dockerfile
from roles.llama_cpp import recipe, vulkan
from roles.llama_cpp.toolchain import PACKAGES

CUDA_HOME = "/usr/local/cuda"
CUDA = ("nvidia/cuda:12.8.1-devel-ubuntu24.04", "nvidia/cuda:12.8.1-runtime-ubuntu24.04")
"""NVIDIA's images to build in and to run in. CUDA 12 is the last that compiles for Maxwell, Pascal and Volta, and 12.8 has Blackwell."""

DEBIAN = "debian:13"
DISTRIBUTIONS = {"debian 12": "debian:12", "debian 13": DEBIAN, "ubuntu 22.04": "ubuntu:22.04", "ubuntu 24.04": "ubuntu:24.04"}

MACHINES = frozenset(
    (
        *("CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER", "CMAKE_CUDA_COMPILER", "CMAKE_CUDA_HOST_COMPILER"),
        *("CMAKE_SYSTEM_NAME", "CMAKE_SYSTEM_PROCESSOR"),
    )
)
"""Options that say where a builder of the fleet has its compilers: an image has its own."""


@dataclass(frozen=True)
class Context:
    """What `docker build` takes beside the source: two files, and what the image is called."""

    dockerfile: str
    script: str
    image: str


def base_images(release: Release, hardware: Hardware) -> tuple[str, str]:
    """The image to build in and the one to run in, where nobody names others."""
    own = DISTRIBUTIONS.get(hardware.distribution, DEBIAN)
    return CUDA if release.backend == "cuda" else (own, own)


def context(release: Release, builder: str, runtime: str) -> Context:
    """Raises PaddockError for a release that is not compiled."""
    if release.downloads:
        raise PaddockError(f"llama.cpp {release.version} is made of the distribution's packages: there is nothing to compile")
    own = {"CMAKE_CUDA_COMPILER": f"{CUDA_HOME}/bin/nvcc"} if release.backend == "cuda" else {}
    options = {name: value for name, value in release.options if name not in MACHINES} | own
    fingerprint = hashlib.sha256(f"{release.key} {builder} {sorted(options.items())}".encode()).hexdigest()
    made = replace(
        release,
        path=f"{release.path.rpartition('/')[0]}/{release.version}-{fingerprint[:12]}",
        fingerprint=fingerprint,
        options=tuple(options.items()),
        triplet="",
        jobs=0,
    )
    packed = f"/{made.name}.tar.gz"
    name = f"{IMAGE}:{made.name}"
    text = dockerfile(
        made,
        runtime,
        builder=builder,
        image=name,
        build_packages=sorted((*PACKAGES, "g++", *(vulkan.BUILD_PACKAGES if release.backend == "vulkan" else ()))),
        stubs=f"{CUDA_HOME}/lib64/stubs" if release.backend == "cuda" else "",
        packed=packed,
    )
    return Context(text, recipe.script(made, work="/work", packed=packed, ccache="/root/.ccache"), name)
