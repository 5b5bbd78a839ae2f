"""What a host's machine is, in one command. What the host does not have, or cannot say, is left out: it is no error."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from pyinfra.api import FactBase

from facts import neighbours
from inventory.hardware import OF_32_BITS, Hardware, NvidiaCard, PciDevice, VulkanDevice, compute_capability

DISTRIBUTION_SH = """( . /etc/os-release; echo "$ID ${VERSION_ID:-${VERSION_CODENAME:-}}" )"""

# Of each display controller: 0000:01:00.0 0x10de 0x1b87
DISPLAYS_SH = """for class in $(grep -ls '^0x03' /sys/bus/pci/devices/*/class); do card=${class%/class}
    read -r vendor <$card/vendor && read -r device <$card/device && echo "${card##*/} $vendor $device"; done"""

# Of each display controller whose driver says it (amdgpu): 0000:03:00.0 25753026560
VRAM_SH = """for file in /sys/bus/pci/devices/*/mem_info_vram_total; do card=${file%/*}
    read -r bytes <$file && echo "${card##*/} $bytes"; done"""

# Of each GPU that the kernel lets compute (amdkfd): its PCI domain, its bus, device and function in one number, its architecture. A
# processor has 0 for one.
GFX_SH = """for node in /sys/class/kfd/kfd/topology/nodes/*/properties; do
    awk '{ has[$1] = $2 } END { if (has["gfx_target_version"] > 0)
      print has["domain"] + 0, has["location_id"], has["gfx_target_version"] }' $node; done"""

# Of each interface the addresses that others reach it at: eth0 192.0.2.10. Those that IPv6 makes up for a day are not among them.
ADDRESSES_SH = """ip -oneline address show scope global | awk '!/ (temporary|deprecated|tentative) / {
    sub(/@.*/, "", $2); sub(/\\/.*/, "", $4); print $2, $4 }' | sort"""
TEGRA_NODE = "/dev/nvmap"
"""Where NVIDIA's driver for its own processors is, CUDA opens this (roles/devices.py)."""

PYTHON_SH = "readlink -e /usr/bin/python3"
"""`/usr/bin/python3.13`"""

CADDY_SH = "sed -n '/^Package: caddy$/,/^$/{/^Status:/p;/^Version:/p}' /var/lib/dpkg/status"

IDENTITY_SH = f"""( set +efu; unset IFS; LC_ALL=C; export LC_ALL; {{
  machine=$(uname -m); echo "$machine"; getconf LONG_BIT
  grep -m 1 -E '^(flags|Features)[[:space:]]*:' /proc/cpuinfo
  [ "$machine" = x86_64 ] || grep -E '^CPU (implementer|part)' /proc/cpuinfo | sort -u
  {DISTRIBUTION_SH}
  getconf GNU_LIBC_VERSION
  {PYTHON_SH}
  {DISPLAYS_SH}
  {VRAM_SH}
  cat /sys/module/nvidia/version
  [ ! -x /usr/local/cuda/bin/nvcc ] || readlink -f /usr/local/cuda
  ! command -v vulkaninfo || ls /usr/share/vulkan/icd.d /etc/vulkan/icd.d
  stat -c '%Y %s' /var/lib/dpkg/info/caddy.list
  {ADDRESSES_SH}
  {neighbours.IDENTITY_SH}
  }} 2>/dev/null | sha256sum | cut -c 1-16 )"""
"""Prints sixteen hex digits over what the choice of a release depends on: architecture, bits, processor flags, ARM's cores, distribution,
C library, display controllers and their memory, NVIDIA's driver, and what its owner may have added since: CUDA, Vulkan drivers where there
is a vulkaninfo to ask. And over Python, its addresses, over when Caddy was installed, whose version decides how it is configured, and what
somebody else has in its Caddyfile and in nftables. Every probe asks for it: nothing here may take long, and it holds whatever shell
options the script around it has set."""

# pyinfra decodes what comes back as UTF-8, and firmware may say anything: only printable ASCII gets through. Programs are asked for their
# version, never a daemon; those that talk to a driver get a limit, since a driver may hang. nvidia-smi loads NVIDIA's driver where nothing
# else has, so the identity comes after it.
COMMAND = f"""export LC_ALL=C; unset DISPLAY WAYLAND_DISPLAY
displays() {{ {DISPLAYS_SH}; }}
names() {{ awk -v wanted="$(displays | sed 's/.* 0x\\(.*\\) 0x/\\1:/' | tr '\\n' ' ')" '
  BEGIN {{ split(wanted, ids, " "); for (each in ids) is[ids[each]] = 1 }}
  /^[0-9a-f]/ {{ vendor = substr($0, 1, 4) }}
  /^\\t[0-9a-f]/ {{ id = vendor ":" substr($0, 2, 4); if (id in is) print id " " substr($0, 8) }}' "$1"; }}
smi() {{ timeout -k 5 60 nvidia-smi --query-gpu="uuid,pci.bus_id,name,memory.total,driver_version$1" --format=csv,noheader,nounits; }}
{{
echo "#architecture"; uname -m
echo "#userland"; dpkg --print-architecture || echo "$(getconf LONG_BIT) bits"
echo "#kernel"; uname -r
echo "#distribution"; {DISTRIBUTION_SH}
echo "#cores"; nproc
echo "#memory"; grep -m 1 '^MemTotal:' /proc/meminfo
echo "#cpu"; grep -E '^(model name|flags|Features|CPU implementer|CPU part)[[:space:]]*:' /proc/cpuinfo | awk '!seen[$0]++'
echo "#lscpu"; grep -q '^model name' /proc/cpuinfo || lscpu | grep 'Model name:'
echo "#device-tree"; cat /proc/device-tree/model && echo
echo "#dmi"; cd /sys/devices/virtual/dmi/id && grep . sys_vendor product_name board_vendor board_name
echo "#libc"; getconf GNU_LIBC_VERSION
echo "#python"; {PYTHON_SH}
echo "#disk"; for each in /opt /var/lib; do df -Pk $each/paddock || df -Pk $each; done
for each in gcc g++ clang glslc cmake dockerd; do echo "#$each"; timeout 10 $each --version; done
echo "#caddy"; {CADDY_SH} | grep -A 1 ' installed$' || apt-cache policy caddy
echo "#nvcc"; for each in /usr/local/cuda/bin/nvcc nvcc; do timeout 10 $each --version && break; done
echo "#addresses"; {ADDRESSES_SH}
echo "#pci"; displays
echo "#vram"; {VRAM_SH}
echo "#gfx"; {GFX_SH}
echo "#pci.ids"; for each in /usr/share/misc/pci.ids /usr/share/hwdata/pci.ids; do [ -r $each ] && names $each && break; done
echo "#lspci"; [ -r /usr/share/misc/pci.ids ] || [ -r /usr/share/hwdata/pci.ids ] || lspci -D -mm | grep -E '"(VGA|3D|Display)'
echo "#tegra"; [ ! -e {TEGRA_NODE} ] || cat /proc/device-tree/compatible | tr '\\0' '\\n' | grep '^nvidia,tegra'
echo "#nvidia"; cat /proc/driver/nvidia/version
echo "#nvidia-smi"; said=$(smi ,compute_cap); case $said in *"not a valid field"*) said=$(smi);; esac; echo "$said"
echo "#vulkaninfo"; timeout -k 5 30 vulkaninfo --summary
{neighbours.COMMAND}
echo "#identity"; {IDENTITY_SH}
}} </dev/null 2>/dev/null | tr -cd '\\11\\12\\40-\\176'"""

Sections = Mapping[str, list[str]]


class HardwareFact(FactBase[Hardware]):
    """`Hardware(architecture="x86_64", cpu_model="Intel(R) Celeron(R) CPU 3865U @ 1.80GHz", cores=2, distribution="debian 13", …)`"""

    def command(self) -> str:
        return COMMAND

    def process(self, output: Iterable[str]) -> Hardware:
        sections = _sections(output)
        cpu = list(_pairs(sections["cpu"]))
        gpus = tuple(_gpus(sections))
        return Hardware(
            architecture=_architecture(sections),
            cpu_model=_squeezed(dict(cpu).get("model name", "")) or _cores_named(sections["lscpu"]),
            cpu_flags=_flags_of_all_cores(cpu),
            cores=_number(_line(sections["cores"])),
            memory_mib=_number(_line(sections["memory"])) // 1024,  # the kernel's kB are KiB
            distribution=_line(sections["distribution"]),
            identity=_line(sections["identity"]),
            cpu_parts=tuple(_cpu_parts(cpu)),
            board=_squeezed(_line(sections["device-tree"])) or _board(dict(_pairs(sections["dmi"]))),
            kernel=_line(sections["kernel"]),
            python=_found(r"/python(3\.\d+)$", sections["python"]),
            libc=_found(r"glibc ([\d.]+)", sections["libc"]),
            disk_free_mib=_disk_free_mib(sections["disk"]),
            compilers={name: _found(version, sections[name]) for name, version in COMPILERS.items() if any(sections[name])},
            cmake=_found(r"cmake version ([\d.]+)", sections["cmake"]),
            docker=_found(r"Docker version ([\d.]+)", sections["dockerd"]),
            caddy=_found(r"^(?:Version| +Candidate): (\d\S*)", sections["caddy"]),
            gpus=gpus,
            gfx=dict(_gfx(sections["gfx"])),
            nvidia_driver=_found(r"NVRM version:.*?\s(\d{3,}\.[\d.]+)(?:\s|$)", sections["nvidia"])
            or _driver_of_cards(sections["nvidia-smi"]),
            nvidia_cards=tuple(_nvidia_cards(sections["nvidia-smi"], {each.address: each for each in gpus}))
            or tuple(_tegra(sections["tegra"])),
            vulkan=tuple(_vulkan(sections["vulkaninfo"])),
            addresses=_addresses(sections["addresses"]),
            caddyfile=neighbours.caddyfile(sections["caddyfile"]),
            input_chains=tuple(neighbours.input_chains(sections["input"])),
        )


def _addresses(lines: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for interface, address in (line.split() for line in lines if len(line.split()) == 2):
        found.setdefault(interface, []).append(address)
    return {interface: tuple(sorted(each, key=lambda address: ":" in address)) for interface, each in found.items()}


# What each prints when it is asked for its version; gcc says who packaged it, in brackets, and then its own.
COMPILERS = {
    "gcc": r"^\S+ \(.*?\) ([\d.]+)",
    "g++": r"^\S+ \(.*?\) ([\d.]+)",
    "clang": r"clang version ([\d.]+)",
    "glslc": r"^shaderc v?([\d.]+)",
    "nvcc": r"\bV([\d.]+)",
}

# NVIDIA's processors by the last of their device tree's `compatible`: what their GPU is called, and its compute capability
# (developer.nvidia.com/cuda-gpus; Linux: Documentation/devicetree/bindings/arm/tegra.yaml).
TEGRAS = {
    "nvidia,tegra210": ("NVIDIA Tegra X1", "5.3"),
    "nvidia,tegra186": ("NVIDIA Tegra X2", "6.2"),
    "nvidia,tegra194": ("NVIDIA Xavier", "7.2"),
    "nvidia,tegra234": ("NVIDIA Orin", "8.7"),
    "nvidia,tegra264": ("NVIDIA Thor", "11.0"),
}

NO_NAME = ("", "to be filled by o.e.m.", "system manufacturer", "system product name", "default string", "not specified", "none", "o.e.m.")
"""What firmware says where nobody filled it in."""

Kind = Literal["integrated", "discrete", "virtual", "cpu", "other"]
KINDS: Mapping[str, Kind] = {
    "PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU": "integrated",
    "PHYSICAL_DEVICE_TYPE_DISCRETE_GPU": "discrete",
    "PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU": "virtual",
    "PHYSICAL_DEVICE_TYPE_CPU": "cpu",
}


def _sections(output: Iterable[str]) -> Sections:
    """The lines below each `#name`; a section that is not there is empty."""
    sections: defaultdict[str, list[str]] = defaultdict(list)
    lines: list[str] = []
    for line in output:
        if line.startswith("#"):
            lines = sections[line[1:].strip()]
        else:
            lines.append(line)
    return sections


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((key.strip(), value.strip()) for key, colon, value in (line.partition(":") for line in lines) if colon)


def _line(lines: list[str]) -> str:
    return lines[0].strip() if lines else ""


def _number(text: str) -> int:
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else 0


def _found(pattern: str, lines: list[str]) -> str:
    found = re.search(pattern, "\n".join(lines), re.MULTILINE)
    return found[1] if found else ""


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _architecture(sections: Sections) -> str:
    """Of the programs: a kernel of 64 bits may run a system of 32, as Raspberry Pi OS does."""
    machine, userland = _line(sections["architecture"]), _line(sections["userland"])
    return userland if machine in ("x86_64", "aarch64") and userland in OF_32_BITS else machine


def _cores_named(lines: list[str]) -> str:
    """`Cortex-A725 and Cortex-X925`"""
    return " and ".join(value for _, value in _pairs(lines) if value != "-")


def _flags_of_all_cores(cpu: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Cores of different kinds need not have the same ones, and a program may run on any core."""
    kinds = [frozenset(value.split()) for key, value in cpu if key in ("flags", "Features")]
    return frozenset.intersection(*kinds) if kinds else frozenset()


def _cpu_parts(cpu: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each kind of core once. Of lines that are the same only the first is there, so an implementer stands for all parts below it."""
    implementer = ""
    for key, value in cpu:
        if key == "CPU implementer":
            implementer = value
        elif key == "CPU part":
            yield f"{implementer} {value}"


def _board(dmi: Mapping[str, str]) -> str:
    """The machine's maker and name, or those of its mainboard."""
    for maker, name in (("sys_vendor", "product_name"), ("board_vendor", "board_name")):
        words = [each for each in (dmi.get(maker, ""), dmi.get(name, "")) if each.lower() not in NO_NAME]
        if words and words[-1] == dmi.get(name):
            return _squeezed(" ".join(words))
    return ""


def _disk_free_mib(lines: Iterable[str]) -> int:
    """The least of what is free where releases lie and where they are built."""
    free = [int(fields[3]) for fields in map(str.split, lines) if len(fields) >= 6 and fields[3].isdecimal()]
    return min(free, default=0) // 1024


def _gpus(sections: Sections) -> Iterator[PciDevice]:
    by_id = dict(line.split(" ", 1) for line in sections["pci.ids"] if " " in line)
    by_address = {fields[0]: fields[3] for fields in map(_lspci_fields, sections["lspci"]) if len(fields) > 3}
    vram = {fields[0]: int(fields[1]) >> 20 for fields in map(str.split, sections["vram"]) if len(fields) == 2 and fields[1].isdecimal()}
    for fields in map(str.split, sections["pci"]):
        if len(fields) == 3:
            address, vendor, device = fields[0], fields[1].removeprefix("0x"), fields[2].removeprefix("0x")
            name = by_id.get(f"{vendor}:{device}") or by_address.get(address, "")
            yield PciDevice(address, vendor, device, name, vram.get(address, 0))


def _gfx(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of each GPU its PCI domain, its bus, device and function in one number, and its architecture: 110002 is gfx1102, 90010 gfx90a (major,
    then minor and stepping of two digits each, which the name has in hexadecimal)."""
    for fields in map(str.split, lines):
        if len(fields) == 3 and all(each.isdecimal() and len(each) < 10 for each in fields):
            domain, place, version = map(int, fields)
            address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"
            yield address, f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _lspci_fields(line: str) -> list[str]:
    """`0000:01:00.0 "3D controller" "NVIDIA Corporation" "GP104 [P104-100]" …`"""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _smi_fields(lines: Iterable[str]) -> Iterator[list[str]]:
    """UUID, bus id, name, MiB, driver, and the compute capability where the driver knows the word. Anything else is an error message."""
    yield from ([field.strip() for field in line.split(",")] for line in lines if re.match(r"GPU-\S+, *[0-9A-Fa-f]+:(.*,){3}", line))


def _driver_of_cards(lines: Iterable[str]) -> str:
    return next((fields[4] for fields in _smi_fields(lines)), "")


def _nvidia_cards(lines: Iterable[str], gpus: Mapping[str, PciDevice]) -> Iterator[NvidiaCard]:
    for uuid, bus_id, name, memory_mib, _, *capability in _smi_fields(lines):
        domain, _, place = bus_id.lower().partition(":")
        address = f"{int(domain, 16):04x}:{place}"  # nvidia-smi gives the domain eight digits
        said = capability[0] if capability and re.fullmatch(r"\d+\.\d", capability[0]) else ""
        known = compute_capability(gpus[address]) if address in gpus else ""
        yield NvidiaCard(uuid, address, name, said or known, _number(memory_mib))


def _tegra(lines: Iterable[str]) -> Iterator[NvidiaCard]:
    """The GPU in one of NVIDIA's own processors. nvidia-smi is not there, or says next to nothing of it."""
    for line in lines:
        if line in TEGRAS:
            name, capability = TEGRAS[line]
            yield NvidiaCard("", "", name, capability, 0)
            return


def _vulkan(lines: Iterable[str]) -> Iterator[VulkanDevice]:
    devices: list[dict[str, str]] = []
    for line in map(str.strip, lines):
        key, equals, value = (part.strip() for part in line.partition("="))
        if re.fullmatch(r"GPU\d+:", line):
            devices.append({})
        elif equals and devices:
            devices[-1][key] = value
    for device in devices:
        api = re.search(r"\d+\.\d+\.\d+", device.get("apiVersion", ""))
        if api and "deviceName" in device:
            kind: Kind = KINDS.get(device.get("deviceType", ""), "other")
            yield VulkanDevice(device["deviceName"], device.get("driverName", "").lower(), kind, api[0])
