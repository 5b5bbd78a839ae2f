"""HIP, AMD's own way to its cards: it comes with the distribution's packages alone. ROCm is not built from source."""

from __future__ import annotations

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from roles.devices import KERNELS_FOR, hip_cards
from roles.llama_cpp.cpu import Chosen
from roles.llama_cpp.vulkan import AMD, title

OPTIONS: Chosen = {"GGML_HIP": ("ON", "the inventory asks for HIP")}

RUNTIME_PACKAGES = ("libamdhip64-6", "libhipblas2", "librocblas4")
"""4.5 GB on disk, nearly all of it rocBLAS."""


def usable(hardware: Hardware) -> tuple[str, ...]:
    """The compute architecture of each card that HIP can use: `("gfx1100",)`. Raises PaddockError where there is none."""
    cards = [each for each in hardware.gpus if each.vendor == AMD]
    if found := tuple(hardware.gfx[each.address] for each in hip_cards(hardware)):
        return found
    other = "say `accelerator: vulkan`"
    if hardware.architecture != "x86_64":
        raise PaddockError(f"roles.llama_cpp.accelerator: Debian has HIP for x86-64 only: {other}")
    if not cards:
        raise PaddockError("roles.llama_cpp.accelerator: hip needs an AMD card, and this host has none: leave it out")
    has = ", ".join(map(title, cards))
    if hardware.gfx:
        words = f"{has} is {' and '.join(dict.fromkeys(hardware.gfx.values()))}, and the package has code for {', '.join(KERNELS_FOR)}"
        raise PaddockError(f"roles.llama_cpp.accelerator: {words}: {other}")
    raise PaddockError(
        f"roles.llama_cpp.accelerator: the kernel's amdgpu driver offers {has} to nobody for computing (/sys/class/kfd has no node with a"
        f" GPU): install firmware-amd-graphics and restart the host, or {other}"
    )
