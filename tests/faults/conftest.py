from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.fault_fleet import FaultFleet, fault_fleet


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultFleet]:
    with fault_fleet(tmp_path_factory.mktemp("fault")) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared: FaultFleet) -> FaultFleet:
    """Both hosts as declared, with one thing to do on each."""
    shared.describe()
    shared.disturb()
    return shared
