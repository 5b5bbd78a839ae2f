"""Which card is meant, and how a server is kept to it: the order in which a driver happens to count them does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from roles.devices import KFD, NVIDIA, devices, has_nvidias_driver, hip_cards, is_tegra, render_node
from roles.server import Card, Server

CUDA_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
"""What CUDA opens beside a card's own node, whose number only the driver knows."""

TEGRA_WAITS = ("/dev/nvmap",)

OPEN_DRIVERS = ("1002", "8086")
"""Vendors of cards for which the kernel makes a render node whenever it drives them: AMD and Intel."""


@dataclass(frozen=True)
class CardPin:
    """What a unit says, so that its server has these cards and no others: variables, and the devices that it may open, or, of an account's
    own services, for which no manager can say that, the nodes that are `hidden` from it."""

    environment: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


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
    if backend == "cuda":
        found = [(each.address, each.uuid, each.name) for each in hardware.nvidia_cards]
    else:
        found = [(each.address, "", each.name) for each in (hip_cards(hardware) if backend == "hip" else hardware.gpus)]
    return tuple(Installed(number, *each) for number, each in enumerate(sorted(found), count_from))


def pin(server: Server, hardware: Hardware | None, backend: str) -> CardPin:
    """How to keep a server to its cards. CUDA is told their UUIDs. Of what Vulkan or HIP would use, only these cards' devices may be
    opened, and from an account's own services all others are hidden.

    Raises PaddockError where one of them is not there.
    """
    if not server.gpus or hardware is None:
        return CardPin(devices=devices(hardware, backend))
    if backend == "cpu":
        raise PaddockError(f"{_where(server)}: llama.cpp is built for the processor here, which uses no card: leave `gpus` out")
    there = installed(hardware, backend, server.count_from)
    cards = [_one(each, there, server) for each in server.gpus]
    if len({each.address for each in cards}) < len(cards):
        raise PaddockError(f"{_where(server)}: one card is named twice for one server")
    if backend == "cuda":
        names = ",".join(each.uuid or str(each.number - server.count_from) for each in cards)
        return CardPin((("CUDA_VISIBLE_DEVICES", names),), devices(hardware, backend))
    if closed := [each for each in cards if _is_nvidias(each.address, hardware)]:
        words = f"NVIDIA's driver lets Vulkan open all of its cards or none: say `accelerator: cuda`, or leave out {closed[0].number}"
        raise PaddockError(f"{_where(server)}: {words}")
    own = (*([KFD] if backend == "hip" else []), *(render_node(each.address) for each in cards))
    if server.scope == "user":
        others = [each.address for each in hardware.gpus if each.address not in {card.address for card in cards}]
        shown = [node for address in others for node in (render_node(address), display_node(address))]
        return CardPin(devices=own, hidden=(*shown, *(["/dev/nvidiactl"] if has_nvidias_driver(hardware) else [])))
    return CardPin(devices=own)


def nodes(server: Server, hardware: Hardware | None, backend: str) -> tuple[str, ...]:
    """The device nodes that a server is not to start without, while the machine boots: those of its cards, or of all that it may use."""
    if not hardware or backend == "cpu":
        return ()
    if backend == "cuda":
        return TEGRA_WAITS if is_tegra(hardware) else CUDA_NODES
    if not server.gpus:
        return devices(hardware, backend) if backend == "hip" else _render_nodes(hardware)
    pinned = pin(server, hardware, backend)
    # What comes later than the server would not be hidden from it.
    return (*pinned.devices, *(each for each in pinned.hidden if each.endswith("-render")))


def _is_nvidias(address: str, hardware: Hardware) -> bool:
    return has_nvidias_driver(hardware) and any(each.address == address and each.vendor == NVIDIA for each in hardware.gpus)


def _render_nodes(hardware: Hardware) -> tuple[str, ...]:
    return tuple(render_node(each.address) for each in hardware.gpus if each.vendor in OPEN_DRIVERS)


def display_node(address: str) -> str:
    """By which a card's displays are set up; Vulkan opens it too."""
    return f"/dev/dri/by-path/pci-{address}-card"


def _one(card: Card, there: Sequence[Installed], server: Server) -> Installed:
    if found := next((each for each in there if each.is_called(card)), None):
        return found
    have = ", ".join(f"{each.number} ({each.name or each.address})" for each in there) or "none that llama.cpp can use"
    raise PaddockError(f"{_where(server)}: there is no card {card} in {server.host}, it has {have}")


def _where(server: Server) -> str:
    return f"roles.llama_server.instances.{server.group}.gpus"
