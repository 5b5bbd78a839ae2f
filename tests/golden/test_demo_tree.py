"""The demo inventory, rendered whole: what would land on its hosts is reviewed like code.

`PADDOCK_GOLDEN=write pytest tests/golden` writes tests/golden/demo/ anew.
"""

import os
from pathlib import Path

import pytest

from control.deployment.render import read, tree, write
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge, ModelDigest
from inventory.load import load
from roles.caddy.settings import CaddySettings
from roles.llama_cpp.releases import releases

HERE = Path(__file__).parent
GOLDEN = HERE / "demo"

MINI_PC = Hardware(
    architecture="x86_64",
    cpu_model="Intel(R) Celeron(R) CPU 3865U @ 1.80GHz",
    cpu_flags=frozenset({"sse", "sse2", "ssse3", "sse4_1", "sse4_2", "popcnt", "aes"}),
    cores=2,
    memory_mib=7838,
    distribution="debian 13",
)
UNISSUED = Certificate(TO_BE_ISSUED, TO_BE_ISSUED)


def known(fleet: Fleet) -> Knowledge:
    """What is known of a fleet whose hosts have been looked at, and for which nothing has been issued yet."""
    sites = [name for host in fleet.hosts if (caddy := fleet.role(host, "caddy", CaddySettings)) for name in caddy.sites]
    hardware = dict.fromkeys(fleet.hosts, MINI_PC)
    return Knowledge(
        hardware=hardware,
        releases=releases(fleet, hardware, {}),
        servers=dict.fromkeys(sites, UNISSUED),
        clients=dict.fromkeys(fleet.clients, UNISSUED),
        models=dict.fromkeys(fleet.models, ModelDigest("5eed" * 16, 62656)),
    )


def test_the_demo_tree_is_as_reviewed() -> None:
    fleet = load(HERE.parent.parent / "inventory" / "demo.yml")
    rendered = tree(fleet, known(fleet))
    if os.environ.get("PADDOCK_GOLDEN") == "write":
        write(rendered, GOLDEN)
        pytest.skip(f"wrote {len(rendered)} files: review them")
    reviewed = read(GOLDEN)
    assert sorted(rendered) == sorted(reviewed)
    for path, content in rendered.items():
        assert content.decode() == reviewed[path].decode(), f"{path} is not as reviewed: PADDOCK_GOLDEN=write writes it anew"
