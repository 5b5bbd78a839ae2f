"""A release that is worse is stopped at the canary: the one before serves on, and the rest of the fleet has not been touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bad_releases import AS_IT_IS, BAD, LATE, SLIGHTLY_SLOWER, source
from tests.faults.canary_fleet import FLEET, SERVES, stops_at_the_canary
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import WHOLE, spread, turn

pytestmark = turn(3, of=5)

KINDS = {**BAD, **LATE} if WHOLE else BAD

TIMES = 20 if WHOLE else 1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    directory = tmp_path_factory.mktemp("worse")
    text = FLEET.format(fleet="worse", llama_cpp="{ui: false, builder: one, source: {path: %s}}" % (directory / "tree"))
    source(AS_IT_IS, directory / "inventory.yml", directory / "tree")
    with lab_fleet("worse", directory, text, ready=True) as fleet:
        fleet.up()
        yield fleet


@pytest.mark.parametrize("kind", spread("bad releases", list(KINDS), 2))
def test_a_release_that_is_worse_stops_at_the_canary(fleet: LabFleet, kind: str) -> None:
    source(KINDS[kind], fleet.inventory, fleet.directory / "tree")
    stops_at_the_canary(fleet, KINDS[kind].words, soak_s=180 if kind in LATE else 60)


def test_a_release_that_is_5_percent_slower_passes_each_time(fleet: LabFleet) -> None:
    source(SLIGHTLY_SLOWER, fleet.inventory, fleet.directory / "tree")
    before = fleet.on("one", SERVES)
    for _ in range(TIMES):
        done = fleet.paddock("upgrade", "--lab", "--yes", "--soak", "0", "--limit", "one", timeout_s=3000)
        print(done.stdout, done.stderr, flush=True)
        assert done.returncode == 0
        assert fleet.on("one", SERVES) != before
        assert fleet.paddock("rollback", "--lab", "--yes", "one").returncode == 0
        assert fleet.on("one", SERVES) == before
