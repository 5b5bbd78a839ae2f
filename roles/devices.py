"""The devices that the backends of llama.cpp open, as a unit grants them."""

from __future__ import annotations

from inventory.hardware import Hardware, PciDevice, shares_memory
from roles.sandbox import NVIDIAS

KFD = "/dev/kfd"
"""By which AMD's cards compute."""

KERNELS_FOR = ("gfx803", "gfx900", "gfx906", "gfx908", "gfx90a", "gfx1010", "gfx1030", "gfx1100", "gfx1101", "gfx1102")
"""What Debian's libggml0-backend-hip has code for (X-Rocm-Gpu-Architecture of 0.27.0-1)."""

DEVICES = {"cpu": (), "vulkan": ("char-drm",), "cuda": NVIDIAS, "hip": (KFD, "char-drm")}
"""The kinds of devices, as /proc/devices names them, that each backend uses."""

OTHER_GGML = ("/usr/lib/aarch64-linux-gnu/ggml", "/usr/lib/x86_64-linux-gnu/ggml")
"""Where the distribution's llama.cpp looks for back ends before it looks beside itself. Of a release that was made of packages these would
be of another version, where somebody has installed libggml0."""

GPU_OF_TEGRA = ("as", "channel", "ctrl", "ctxsw", "dbg", "power", "prof", "prof-ctx", "prof-dev", "sched", "tsg")
TEGRA_NODES = (
    *(f"/dev/nvgpu/igpu0/{each}" for each in GPU_OF_TEGRA),
    *(f"/dev/nvhost-{'' if each == 'channel' else f'{each}-'}gpu" for each in GPU_OF_TEGRA),
    *("/dev/nvhost-ctrl", "/dev/nvhost-vic", "/dev/nvmap", "/dev/nvsciipc", "/dev/host1x-fence"),
)
"""What CUDA opens on a Jetson, as JetPack 5 and 6 call it: the devices.csv that NVIDIA's container toolkit reads there, without what
cameras, codecs and displays use. They have a major number each, some are misc devices: a group of /proc/devices names few of them. systemd
passes over those that are not there."""

NVIDIA = "10de"
"""Its number among the vendors of PCI devices."""


def devices(hardware: Hardware | None, backend: str) -> tuple[str, ...]:
    """The devices that a server may open which is not kept to some cards."""
    if hardware is None:
        return DEVICES[backend]
    if backend == "cuda" and is_tegra(hardware):
        return (*NVIDIAS, *TEGRA_NODES)  # a later one has both kinds
    if backend == "hip":  # a card that its package has no code for would be used too
        return (KFD, *(render_node(each.address) for each in hip_cards(hardware)))
    if backend == "vulkan" and has_nvidias_driver(hardware):
        return (*DEVICES["vulkan"], *NVIDIAS)
    return DEVICES[backend]


def hip_cards(hardware: Hardware) -> tuple[PciDevice, ...]:
    """The cards that HIP has code for, in the order of their addresses."""
    found = (each for each in hardware.gpus if hardware.gfx.get(each.address) in KERNELS_FOR)
    return tuple(sorted(found, key=lambda each: each.address))


def render_node(address: str) -> str:
    """`0000:01:00.0` → the name that udev gives its node once the node has its group"""
    return f"/dev/dri/by-path/pci-{address}-render"


def is_tegra(hardware: Hardware) -> bool:
    """Whether its NVIDIA GPU is a part of the processor, as on a Jetson: none is on the PCI bus."""
    return hardware.architecture == "aarch64" and not any(each.vendor == NVIDIA for each in hardware.gpus)


def is_jetson(hardware: Hardware) -> bool:
    """Whether NVIDIA's driver for such a machine is at work there. CUDA comes with that: a distribution's is for cards on a bus."""
    return is_tegra(hardware) and shares_memory(hardware)


def reads_proc(hardware: Hardware | None, backend: str) -> bool:
    """Whether it asks /proc for more than processes: where the GPU uses the machine's memory, /proc/meminfo for how much of it is free
    (ggml-cuda.cu: ggml_backend_cuda_device_get_memory), and on a Jetson CUDA asks the device tree what machine it is on. HIP always does:
    it reads /proc/cpuinfo (libhsakmt: topology.c)."""
    if backend == "hip":
        return True
    return hardware is not None and backend == "cuda" and (is_tegra(hardware) or shares_memory(hardware))


def has_nvidias_driver(hardware: Hardware) -> bool:
    """And not Mesa's for the same cards, which opens what all of Mesa's do."""
    return bool(hardware.nvidia_driver) or any(each.driver == "nvidia" for each in hardware.vulkan)
