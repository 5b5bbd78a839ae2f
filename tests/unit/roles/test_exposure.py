"""How much each system unit of Paddock's could reach after a break-in, as systemd itself counts it: from 0, nothing, to 10."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from everything import HARMLESS, context, fleet

from inventory.fleet import Fleet
from inventory.hardware import PciDevice, VulkanDevice
from inventory.knowledge import Knowledge
from inventory.load import load
from resources import File
from roles.host_plan import host_plan
from roles.llama_cpp.releases import releases
from roles.role import TEMPLATES
from tests.golden.test_demo_tree import known

MOST = 2.0

SYSTEM = Path("etc/systemd/system")

CADDYS = """[Unit]
After=network.target network-online.target
Requires=network-online.target

[Service]
Type=notify
User=caddy
Group=caddy
ExecStart=/usr/bin/caddy run --environ --config /etc/caddy/Caddyfile
ExecReload=/usr/bin/caddy reload --config /etc/caddy/Caddyfile --force
TimeoutStopSec=5s
LimitNOFILE=1048576
PrivateTmp=true
ProtectSystem=full
AmbientCapabilities={}

[Install]
WantedBy=multi-user.target
"""
"""Debian's own, of 2.6.2 and of 2.11.4 but for the rights that it gives."""

LOW_PORTS = {
    "AdminSettings.listen": "0.0.0.0:81",
    "InstanceSettings.listen": "0.0.0.0:82",
}


def everywhere(text: Any = HARMLESS, **hardware: Any) -> tuple[Fleet, Knowledge]:
    of = fleet({**HARMLESS, **text})
    machines = {name: replace(each, **hardware) for name, each in context(of).hardware.items()}
    return of, replace(context(of), hardware=machines, releases=releases(of, machines, {}))


def demo() -> tuple[Fleet, Knowledge]:
    of = load(TEMPLATES.parent / "inventory" / "demo.yml")
    return of, known(of)


PRIORITY = {"InstanceSettings.preset{key}": "prio", "InstanceSettings.preset{}": "3"}

RADEON = {
    "gpus": (PciDevice("0000:c5:00.0", "1002", "1586"),),
    "vulkan": (VulkanDevice("Radeon", "radv", "integrated", "1.4.305"),),
}
FLEETS = {
    "of the demo": demo,
    "with every role": everywhere,
    "on ports below 1024": lambda: everywhere(LOW_PORTS),
    "with an AMD card": lambda: everywhere(**RADEON),
    "that asks for all there is": lambda: everywhere({**LOW_PORTS, **PRIORITY}, **RADEON),
}


def units(root: Path, of: Fleet, knowledge: Knowledge, caddys: str) -> Iterator[tuple[Path, str]]:
    """The system's services of each host, below a directory that has its units; Caddy's is its package's, with Paddock's drop-ins."""
    for host in of.hosts.values():
        files = [each for part in host_plan(host, of, knowledge).values() for each in part if isinstance(each, File)]
        mine = {each.path[1:]: each.data for each in files if Path(each.path[1:]).is_relative_to(SYSTEM)}
        if "caddy" in host.carried:
            mine[str(SYSTEM / "caddy.service")] = caddys.encode()
        for path, data in mine.items():
            place = root / host.name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        yield from ((root / host.name, Path(path).name) for path in mine if path.endswith(".service"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
@pytest.mark.parametrize("rights", ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN CAP_NET_BIND_SERVICE"])
@pytest.mark.parametrize("which", FLEETS)
def test_no_system_unit_is_more_exposed_than_it_has_to_be(tmp_path: Path, which: str, rights: str) -> None:
    found = {}
    for root, name in units(tmp_path, *FLEETS[which](), CADDYS.format(rights)):
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={root}", name], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stderr
        found[f"{root.name}: {name}"] = float(said.stdout.partition(f"level for {name}: ")[2].split()[0])
    assert "caddy.service" in str(list(found))
    assert {name: exposure for name, exposure in found.items() if exposure > MOST} == {}
