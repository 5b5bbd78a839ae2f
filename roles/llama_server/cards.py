"""Which card is meant, and how a server is kept to it: the order in which a driver happens to count them does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from inventory.servers import Server
from roles.llama_server.settings import Card

DEVICES = {
    "cpu": (),
    "vulkan": ("char-drm",),
    "cuda": ("char-nvidia-frontend", "char-nvidia", "char-nvidia-uvm", "char-nvidia-caps"),
}
"""The kinds of devices, as /proc/devices names them, that each backend uses."""


@dataclass(frozen=True)
class Pin:
    """What a unit says, so that its server has these cards and no others: variables, and the devices that it may open."""

    environment: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installed:
    """A card that is in the host, by the number that people give it."""

    number: int
    address: str
    uuid: str = ""
    name: str = ""

    def is_called(self, card: Card) -> bool:
        return card in (self.number, self.address, self.uuid)


def installed(hardware: Hardware, backend: str, count_from: int) -> tuple[Installed, ...]:
    """The cards that the backend can use, in the order of their PCI addresses, which no driver and no reboot changes."""
    found = (
        [(each.address, each.uuid, each.name) for each in hardware.nvidia_cards]
        if backend == "cuda"
        else [(each.address, "", each.name) for each in hardware.gpus]
    )
    return tuple(Installed(number, *each) for number, each in enumerate(sorted(found), count_from))


def pin(server: Server, hardware: Hardware | None, backend: str) -> Pin:
    """How to keep a server to its cards. CUDA is told their UUIDs; of what Vulkan would use, only these cards' devices may be opened.

    Raises PaddockError where one of them is not there.
    """
    everything = Pin(devices=DEVICES[backend])
    if not server.gpus or hardware is None:
        return everything
    if backend == "cpu":
        raise PaddockError(f"{_where(server)}: llama.cpp is built for the processor here, which uses no card: leave `gpus` out")
    there = installed(hardware, backend, server.count_from)
    cards = [_one(each, there, server) for each in server.gpus]
    if len({each.address for each in cards}) < len(cards):
        raise PaddockError(f"{_where(server)}: one card is named twice for one server")
    if backend == "cuda":
        return Pin((("CUDA_VISIBLE_DEVICES", ",".join(each.uuid for each in cards)),), DEVICES[backend])
    return Pin(devices=tuple(f"/dev/dri/by-path/pci-{each.address}-render" for each in cards))


def _one(card: Card, there: Sequence[Installed], server: Server) -> Installed:
    if found := next((each for each in there if each.is_called(card)), None):
        return found
    have = ", ".join(f"{each.number} ({each.name or each.address})" for each in there) or "none that llama.cpp can use"
    raise PaddockError(f"{_where(server)}: there is no card {card} in {server.host}, it has {have}")


def _where(server: Server) -> str:
    return f"roles.llama_server.instances.{server.group}.gpus"
