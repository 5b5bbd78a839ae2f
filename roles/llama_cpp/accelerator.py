"""What the models of a host run on, and why."""

from __future__ import annotations

from typing import Literal

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from roles.llama_cpp import cuda, hip, vulkan
from roles.llama_cpp.settings import LlamaCppSettings

Backend = Literal["cpu", "cuda", "vulkan", "hip"]


def accelerator(hardware: Hardware, settings: LlamaCppSettings) -> tuple[Backend, str]:
    """The backend, and why it is that. Raises PaddockError where what is asked for cannot be used, and where `auto` finds cards that are
    meant to work, since they have a driver, and that this driver has left behind: to build for the CPU in silence would hide it."""
    if settings.accelerator == "cuda":
        return "cuda", _because("the inventory asks for CUDA", cuda.named(cuda.usable(hardware)), *cuda.remarks(hardware))
    if settings.accelerator == "hip":
        return "hip", _because("the inventory asks for HIP", " and ".join(dict.fromkeys(hip.usable(hardware))))
    if settings.accelerator == "vulkan":
        return "vulkan", _because("the inventory asks for Vulkan", _vulkan(hardware, settings))
    if settings.accelerator == "cpu":
        return "cpu", "the inventory asks for the CPU"
    cards = cuda.usable(hardware)
    if cards and settings.source.packages:
        raise PaddockError(
            f"roles.llama_cpp.accelerator: {cuda.named(cards)} would use CUDA, which the distribution's packages do not have: build another"
            " source, or say `accelerator: vulkan` or `accelerator: cpu`"
        )
    if cards:
        return "cuda", _because(
            f"{cuda.named(cards)}, with driver {hardware.nvidia_driver or 'of an unknown version'}", *cuda.remarks(hardware)
        )
    if cuda.abandoned(hardware):
        cuda.options(hardware, ())  # says what to do
    devices = [each for each in vulkan.usable(hardware) if each.driver not in vulkan.OF_NVIDIA]
    if devices:
        return "vulkan", _because(", ".join(f"{each.name} ({each.driver})" for each in devices), *cuda.remarks(hardware))
    if not hardware.vulkan and (trusted := vulkan.trusted(hardware)):
        names = ", ".join(map(vulkan.title, trusted))
        return "vulkan", _because(names, f"its driver comes with {vulkan.MESA}", *cuda.remarks(hardware))
    remarks = (*cuda.remarks(hardware), *vulkan.remarks(hardware))
    return "cpu", _because("there is no GPU that llama.cpp could use" if remarks or hardware.gpus else "there is no GPU", *remarks)


def _vulkan(hardware: Hardware, settings: LlamaCppSettings) -> str:
    """Which device it is to be. Raises PaddockError where there is none."""
    if devices := vulkan.usable(hardware):
        return ", ".join(f"{each.name} ({each.driver})" for each in devices)
    if settings.vulkan_device == "any":
        return "any device will do: the first one, even if it computes on the processor"
    if present := vulkan.present(hardware):
        return f"{', '.join(map(vulkan.title, present))}, which Vulkan does not list yet"
    seen = "; ".join(vulkan.remarks(hardware)) or "this host has none"
    raise PaddockError(
        f"roles.llama_cpp.accelerator: vulkan needs a GPU, and {seen}: say `accelerator: cpu`,"
        " or `vulkan_device: any` to take what there is"
    )


def _because(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))
