"""The fleet `edge`, deployed once for the tests that call at its doors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from edge_fleet import deployed

from tests.lab_fleet import LabFleet


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with deployed(tmp_path_factory.mktemp("edge")) as fleet:
        yield fleet
