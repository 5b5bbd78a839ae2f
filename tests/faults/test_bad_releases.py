"""A release that is worse is stopped at the canary: the one before serves on, and the rest of the fleet has not been touched.

Each is built from llama.cpp's own source.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bad_releases import BAD, source
from tests.faults.canary_fleet import ROUTER, canary_fleet, stops_at_the_canary
from tests.lab_fleet import LabFleet
from tests.share import spread, turn

pytestmark = turn(3, of=5)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    directory = tmp_path_factory.mktemp("worse")
    source("", directory / "inventory.yml", directory / "tree")
    with canary_fleet("worse", directory, f"{{ui: false, builder: one, source: {{path: {directory / 'tree'}}}}}", ROUTER) as fleet:
        fleet.up()
        yield fleet


@pytest.mark.parametrize("kind", spread("bad releases", sorted(BAD), 2))
def test_a_release_that_is_worse_stops_at_the_canary(fleet: LabFleet, kind: str) -> None:
    source(kind, fleet.inventory, fleet.directory / "tree")
    stops_at_the_canary(fleet, BAD[kind].words)
