"""What drivers must show: that they are loaded, and that no card is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roles.gpu.plan import SCRIPT

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
