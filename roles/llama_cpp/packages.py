"""The distribution's packages of llama.cpp: which ones a release is made of.

They are unpacked into a release and not installed: see docs/decisions/packages-are-unpacked.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from roles.llama_cpp.cpu import Chosen
from roles.llama_cpp.toolchain import Toolchain
from roles.source import Source

OPTIONS: Chosen = {
    "GGML_BACKEND_DL": ("ON", "the distribution builds it so: what a release can use lies beside the programs"),
    "GGML_CPU_ALL_VARIANTS": ("ON", "the distribution builds all of the architecture's variants, and the best one is loaded at run time"),
}
"""What decides between releases of the same packages."""

TOOLS = ("llama-bench", "llama-cli", "llama-completion", "llama-quantize", "llama-server")
"""The programs in llama.cpp-tools; all others are in llama.cpp-tools-extra."""

BACKENDS = {"vulkan": "libggml0-backend-vulkan", "hip": "libggml0-backend-hip"}

RUNTIME_PACKAGES = ("libssl3t64",)
"""What libllama0 needs beside what every build needs."""

TOOLCHAIN = Toolchain(("chrpath", "libgomp1", *RUNTIME_PACKAGES, "libstdc++6"))
"""What makes a release of packages: programs have to find their libraries beside them, and are asked for their version."""

UNPACKED_MIB = {"cpu": 200, "vulkan": 300, "hip": 3500}
"""Twice what the packages hold, and the packed release."""


def downloads(source: Source, backend: str, targets: tuple[str, ...], *, rpc: bool) -> tuple[str, ...]:
    """What apt is asked for: `("llama.cpp-tools=1:0.7.0+dfsg-2", "libllama0=1:0.7.0+dfsg-2", "libggml0=0.27.0-1", …)`."""
    return tuple(_downloads(source, backend, targets, rpc))


def _downloads(source: Source, backend: str, targets: tuple[str, ...], rpc: bool) -> Iterator[str]:
    yield from (f"{name}={source.packages}" for name in ("llama.cpp-tools", "libllama0"))
    if not set(targets) <= set(TOOLS):
        yield f"llama.cpp-tools-extra={source.packages}"
    yield f"libggml0={source.ggml}"
    if backend in BACKENDS:
        yield f"{BACKENDS[backend]}={source.ggml}"
    if rpc:
        yield f"libggml0-backend-rpc={source.ggml}"
