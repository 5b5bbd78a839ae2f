"""pyinfra's own way in: `pyinfra control/deployment/pyinfra_hosts.py deploys/site.py`.

PADDOCK_INVENTORY names the inventory, the demo's unless set.
"""

import os
from pathlib import Path

from control.deployment.alone import work_for
from control.state.fleet import FleetState
from inventory.connection import connection
from inventory.load import load

_path = Path(os.environ.get("PADDOCK_INVENTORY") or Path(__file__).parents[2] / "inventory" / "demo.yml")
_fleet = load(_path)
_state = FleetState.of(_path, _fleet.name)

fleet = [
    (name, {**connection(host, _state.known_hosts), "paddock_inventory": str(_path), "work_for": work_for})
    for name, host in _fleet.hosts.items()
]
