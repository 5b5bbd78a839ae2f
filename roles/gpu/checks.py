"""What drivers must show: that they are loaded, and that no card is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources import lines_of
from roles.gpu.plan import PAGES_A_MIB, POWER_UNIT, SCRIPT, limits

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from roles.gpu.settings import GpuSettings

# One that fails when it is used is still held; one that is too old for the driver, such as a small card for a screen, never is.
HELD = "find /sys/bus/pci/drivers/nvidia -name '*:*:*' 2>/dev/null | wc -l"


def check_the_driver_works(host: TestinfraHost, settings: GpuSettings) -> None:
    if not settings.nvidia:
        return
    said = host.run("/bin/sh %s", SCRIPT)
    assert said.rc == 0, said.stdout.strip().rpartition("\n")[2] or said.stderr


def check_every_card_that_the_driver_holds_answers(host: TestinfraHost, settings: GpuSettings) -> None:
    if not settings.nvidia:
        return
    answer, held = (int(host.check_output(command)) for command in ("nvidia-smi --list-gpus | grep ^GPU | wc -l", HELD))
    assert answer >= held, f"{answer} of {held} NVIDIA cards answer: `journalctl --dmesg --grep NVRM` says why"


def check_every_card_keeps_to_its_power_limit(host: TestinfraHost, settings: GpuSettings) -> None:
    for card, watts in (limits(settings.nvidia) if settings.nvidia else {}).items():
        asked = "nvidia-smi --query-gpu=pci.bus_id,power.limit --format=csv,noheader,nounits"
        said = host.check_output(asked if card == "all" else f"{asked} --id=%s", *([] if card == "all" else [card]))
        off = [line for line in lines_of(said) if float(line.rpartition(",")[2]) != watts]
        assert not off, f"{'; '.join(off)} W, not {watts}: `systemctl restart {POWER_UNIT}` sets it, its journal says what is in the way"


def check_the_kernel_will_give_the_graphics_its_memory(host: TestinfraHost, settings: GpuSettings) -> None:
    """That it does so already takes a reboot, which `paddock status` asks for."""
    if settings.amd:
        configured = host.check_output("modprobe --showconfig | sed -n 's/^options ttm .*pages_limit=//p' | tail -n 1")
        assert configured == str(settings.amd.gtt_mib * PAGES_A_MIB), f"another file in /etc/modprobe.d says pages_limit={configured}"
