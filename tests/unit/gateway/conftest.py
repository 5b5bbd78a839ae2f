"""The gateway's tests run in a process of their own: `pytest tests/unit/gateway`.

pyinfra, once imported, patches the threads and signals of its whole process (gevent), and no event loop works beside that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    if mine and len(mine) < len(items) and "pyinfra" in sys.modules:
        print(f"{len(mine)} tests of the gateway are left out beside pyinfra: pytest {HERE.relative_to(config.rootpath)}", flush=True)
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in set(mine)]
