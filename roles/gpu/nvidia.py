"""NVIDIA's drivers: which one each distribution carries, and which cards each branch of them drives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import Hardware, compute_capability

NVIDIA = "10de"
WHERE = "roles.gpu.nvidia"


@dataclass(frozen=True)
class Driver:
    """A distribution's driver without what only screens need. `open_packages` have the kernel modules that NVIDIA has published."""

    branch: int
    packages: tuple[str, ...]
    open_packages: tuple[str, ...] = ()


# Debian 12 began with 525 and has 535 since. Its open modules may lag behind its libraries, which then refuse them, and neither Debian
# has a branch that knows the cards which need them.
DEBIAN = ("libcuda1", "nvidia-kernel-dkms", "nvidia-smi")
UBUNTU = Driver(
    580, ("nvidia-headless-580-server", "nvidia-utils-580-server"), ("nvidia-headless-580-server-open", "nvidia-utils-580-server")
)
DRIVERS: Mapping[str, Driver] = {
    "debian 12": Driver(535, DEBIAN),
    "debian 13": Driver(550, DEBIAN),
    "ubuntu 22.04": UBUNTU,
    "ubuntu 24.04": UBUNTU,
}
ARCHITECTURE = "x86_64"

# Compute capability → the first driver that knows it: that of the CUDA which does (release notes of CUDA 11.0 to 13.0).
FIRST_BRANCH = {"8.0": 450, "8.6": 455, "8.9": 520, "9.0": 520, "10.0": 570, "10.3": 575, "11.0": 580, "12.0": 570, "12.1": 575}

DriverVersion = tuple[int, ...]
OLDEST: DriverVersion = (5, 0)
"""llama.cpp's CUDA begins with Maxwell: what is older needs no driver for it."""
TURING: DriverVersion = (7, 5)
"""The first that NVIDIA's open modules drive, and the first that drivers after `LAST_BEFORE_TURING` do."""
LAST_BEFORE_TURING = 580
BLACKWELL: DriverVersion = (10, 0)
"""From here on, nothing but the open modules will do."""

# Distribution → the kernel that it came with, and the parts of a kernel's name that say it is the distribution's own.
KERNELS = {"debian 12": "6.1", "debian 13": "6.12", "ubuntu 22.04": "5.15", "ubuntu 24.04": "6.8"}
FLAVOURS = {"debian": ("amd64", "cloud-amd64", "rt-amd64"), "ubuntu": ("generic", "lowlatency")}


@dataclass(frozen=True)
class NvidiaModel:
    name: str
    capability: str
    """`6.1`; empty where nobody knows"""


def packages(hardware: Hardware, driver: str) -> tuple[str, ...]:
    """What the host's driver consists of. Raises PaddockError where it would not drive the host's cards, or where there are none."""
    cards = _cards(hardware)
    if driver == "installed":
        _check_installed(hardware, cards)
        return ()
    if driver != "distribution":
        branch = int(found[0]) if (found := re.search(r"\d{3}", driver)) else 0
        if why := unfit(cards, branch, open_modules="open" in driver.split("-")):
            raise PaddockError(f"{WHERE}.driver: {driver} is not for this host: {why}: {_instead(hardware, cards)}")
        return (driver, *filter(None, [_headers(hardware)]))
    carried = DRIVERS.get(hardware.distribution) if hardware.architecture == ARCHITECTURE else None
    if not carried:
        raise PaddockError(
            f"{WHERE}.driver: Paddock knows no driver of {_titled(hardware)} for {hardware.architecture}: install one, and say"
            " `driver: installed`"
        )
    open_modules = bool(carried.open_packages) and any(_version(each) >= BLACKWELL for each in cards)
    if why := unfit(cards, carried.branch, open_modules=open_modules):
        raise PaddockError(f"{WHERE}.driver: {_titled(hardware)} carries driver {carried.branch}, and {why}: {_instead(hardware, cards)}")
    present = _branch(hardware.nvidia_driver)
    if present > carried.branch:
        raise PaddockError(
            f"{WHERE}.driver: driver {hardware.nvidia_driver} is installed, which is newer than {_titled(hardware)}'s"
            f" ({carried.branch}): say `driver: installed` to keep it, or remove it first"
        )
    headers = _headers(hardware)
    if not headers:
        raise PaddockError(
            f"{WHERE}.driver: the kernel {hardware.kernel} is not {_titled(hardware)}'s own, so that its headers are not known:"
            " install the driver for it, and say `driver: installed`"
        )
    return (*(carried.open_packages if open_modules else carried.packages), headers)


def unfit(cards: Iterable[NvidiaModel], branch: int, *, open_modules: bool | None) -> str:
    """Why a driver of this branch, 0 where its name does not tell, does not drive all of the cards; empty where it does. `open_modules`
    says whether its kernel modules are those that NVIDIA has published, None where it has loaded already."""
    known = [each for each in cards if each.capability]
    before = [each for each in known if _version(each) < TURING]
    newest = [each for each in known if _version(each) >= BLACKWELL]
    if before and branch > LAST_BEFORE_TURING:
        return f"driver {branch} does not drive {named(before)}, {LAST_BEFORE_TURING} is the last for cards before Turing"
    if before and open_modules:
        return f"NVIDIA's open kernel modules do not drive {named(before)}"
    for each in known:
        first = FIRST_BRANCH.get(each.capability, 0)
        if 0 < branch < first:
            return f"driver {branch} does not know {named([each])} yet, {first} is the first that does"
    if newest and branch and open_modules is False:
        return f"{named(newest)} takes NVIDIA's open kernel modules"
    return ""


def named(cards: Iterable[NvidiaModel]) -> str:
    """`8 × NVIDIA P104-100 (6.1)`"""
    words = [f"{each.name} ({each.capability})" if each.capability else each.name for each in cards]
    return ", ".join(f"{words.count(each)} × {each}" if words.count(each) > 1 else each for each in dict.fromkeys(words))


def _cards(hardware: Hardware) -> tuple[NvidiaModel, ...]:
    """The cards that a driver is wanted for. Raises PaddockError where there is none."""
    driven = {each.address: NvidiaModel(each.name, each.compute_capability) for each in hardware.nvidia_cards}
    alone = {
        each.address: NvidiaModel(each.name or f"NVIDIA {each.vendor}:{each.device}", compute_capability(each))
        for each in hardware.gpus
        if each.vendor == NVIDIA and each.address not in driven
    }
    cards = (*driven.values(), *alone.values())
    if not cards:
        seen = ", ".join(each.name or f"{each.vendor}:{each.device}" for each in hardware.gpus)
        raise PaddockError(f"{WHERE}: this host has no NVIDIA card{f', but {seen}' if seen else ''}: leave `nvidia` out")
    useful = tuple(each for each in cards if not each.capability or _version(each) >= OLDEST)
    if not useful:
        raise PaddockError(
            f"{WHERE}: {named(cards)} is too old for llama.cpp's CUDA, which needs compute capability 5.0: leave `nvidia` out"
        )
    return useful


def _check_installed(hardware: Hardware, cards: tuple[NvidiaModel, ...]) -> None:
    """Raises PaddockError where there is no driver, or one that has left a card behind. Its kernel modules have shown what they drive."""
    if not hardware.nvidia_driver:
        raise PaddockError(
            f"{WHERE}.driver: no driver is loaded for {named(cards)}: install one and restart the machine, or have Paddock do it with"
            " `driver: distribution`"
        )
    if why := unfit(cards, _branch(hardware.nvidia_driver), open_modules=None):
        raise PaddockError(f"{WHERE}.driver: driver {hardware.nvidia_driver} is installed, and {why}: {_instead(hardware, cards)}")


def _instead(hardware: Hardware, cards: tuple[NvidiaModel, ...]) -> str:
    """What to do about a driver that is unfit."""
    before = [each for each in cards if each.capability and _version(each) < TURING]
    newest = [each for each in cards if each.capability and _version(each) >= BLACKWELL]
    if before and newest:
        return f"no driver drives both, so take {named(before)} or {named(newest)} out of the machine"
    carried = DRIVERS.get(hardware.distribution) if hardware.architecture == ARCHITECTURE else None
    if carried and not unfit(cards, carried.branch, open_modules=bool(newest and carried.open_packages)):
        first = "remove it and " if _branch(hardware.nvidia_driver) > carried.branch else ""
        return f"{first}say `driver: distribution`, which is driver {carried.branch} here"
    wanted = LAST_BEFORE_TURING if before else max(FIRST_BRANCH.get(each.capability, LAST_BEFORE_TURING) for each in cards)
    return f"install driver {wanted}{'' if before else ' or later'} from NVIDIA, and say `driver: installed`"


def _headers(hardware: Hardware) -> str:
    """The package that follows the host's kernel with its headers; empty where the kernel is not the distribution's own."""
    name = hardware.distribution.partition(" ")[0]
    own = KERNELS.get(hardware.distribution)
    if not own or name not in FLAVOURS:
        return ""
    if not hardware.kernel:
        return f"linux-headers-{FLAVOURS[name][0]}"
    # The longest first: 6.1.0-18-cloud-amd64 ends like amd64 too.
    flavour = next((each for each in sorted(FLAVOURS[name], key=len, reverse=True) if hardware.kernel.endswith(f"-{each}")), "")
    came_with_it = hardware.kernel.startswith(f"{own}.")
    if not flavour or (name == "debian" and not came_with_it):
        return ""
    hwe = "" if came_with_it else f"-hwe-{hardware.distribution.partition(' ')[2]}"
    return f"linux-headers-{flavour}{hwe}"


def _branch(version: str) -> int:
    """`580.95.05` → 580; 0 where there is none"""
    major = version.partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _version(card: NvidiaModel) -> DriverVersion:
    return tuple(int(part) for part in card.capability.split(".")) if card.capability else ()


def _titled(hardware: Hardware) -> str:
    """`Debian 13`"""
    return hardware.distribution[:1].upper() + hardware.distribution[1:] or "an unknown distribution"
