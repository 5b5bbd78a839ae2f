"""A release that does not see its card, and would compute on the processor, is stopped at the canary.

What serves is the distribution's llama.cpp, with Vulkan on Mesa's driver for the processor.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.canary_fleet import INSTANCE, canary_fleet, inventory, stops_at_the_canary
from tests.paced_server import tree
from tests.share import turn

pytestmark = turn(1, of=5)

CANDIDATES = "apt-get -qq update; apt-cache policy llama.cpp-tools libggml0 | sed -n 's/^ *Candidate: //p'"
"""An archive has one version of each, that of this day."""

CARD = "accelerator: vulkan, vulkan_device: any"


def test_a_release_that_loses_its_device_stops_at_the_canary(tmp_path: Path) -> None:
    packaged = f"{{{CARD}, source: {{packages: '1:0.7.0+dfsg-2', ggml: 0.27.0-1}}}}"
    with canary_fleet("nocard", tmp_path, packaged, INSTANCE, suite="sid") as fleet:
        llama, ggml = fleet.on("one", CANDIDATES).split()
        packaged = f"{{{CARD}, source: {{packages: '{llama}', ggml: '{ggml}'}}}}"
        fleet.write(inventory("nocard", packaged, INSTANCE, suite="sid"))
        fleet.up()
        tree(tmp_path / "paced")
        fleet.write(inventory("nocard", f"{{{CARD}, ui: false, builder: one, source: {{path: paced}}}}", INSTANCE, suite="sid"))
        stops_at_the_canary(fleet, "devices: Vulkan0 cannot be seen")
