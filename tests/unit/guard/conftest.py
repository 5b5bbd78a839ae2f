from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.guard.guarded_host import GuardedHost


@pytest.fixture
def host(tmp_path: Path) -> GuardedHost:
    return GuardedHost(tmp_path)
