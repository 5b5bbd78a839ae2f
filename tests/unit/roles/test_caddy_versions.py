"""What of Caddy's files goes by its version, and so goes back with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_fleet import Small

from resources import File, of_kind
from roles.host_plan import host_plan


@pytest.mark.parametrize("version", ["2.6.2", "2.11.4"])
def test_all_that_goes_by_the_version_of_caddy_goes_back_with_it(version: str) -> None:
    """Between two versions nothing else of what lies with its sites differs."""
    small = Small()
    plans = []
    for each in (version, "2.8.4"):
        hardware = {name: replace(machine, caddy=each) for name, machine in small.context.hardware.items()}
        known = replace(small.context, hardware=hardware)
        plans.append(host_plan(small.fleet.hosts["one"], small.fleet, known)["caddy"])
    before, after = ({each.path: each for each in of_kind(plan, File) if each.path.startswith("/etc/caddy/paddock/")} for plan in plans)
    differing = [path for path, file in after.items() if path not in before or before[path].data != file.data]
    assert differing or version != "2.6.2"
    assert [path for path in differing if not after[path].goes_back] == []
