"""The rows of gateways' databases before PostgreSQL gets another version, and afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from control.lifecycle.databases import HostDatabase
from control.ssh.reach import Reach
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet

Rows = Mapping[str, int]
"""Table → how many."""


def counted(fleet: Fleet, state: FleetState, hosts: Sequence[str]) -> dict[str, Rows]:
    """Host → its rows, out of a copy that was restored there and stays there. Raises PaddockError where a server does not answer, or no
    copy can be restored."""
    reach = Reach(fleet, state, [fleet.hosts[name] for name in hosts])
    with reach.connected():
        return {name: HostDatabase(reach, name).make().rows for name in hosts}


def lost_since(fleet: Fleet, state: FleetState, before: Mapping[str, Rows]) -> dict[str, str]:
    """Host → what its database has lost since it was `counted`, in words, or why nobody can count."""
    try:
        after = counted(fleet, state, list(before)) if before else {}
    except PaddockError as error:
        return dict.fromkeys(before, str(error))
    found = {name: "; ".join(lost(rows, after[name])) for name, rows in before.items()}
    return {name: words for name, words in found.items() if words}


def lost(before: Rows, after: Rows) -> Iterator[str]:
    """What has got lost, a line each. The gateway writes meanwhile, and deletes rows of its log that are old."""
    for table, number in before.items():
        if table not in after:
            yield f"the table {table} is gone"
        elif number and not after[table]:
            yield f"the table {table} had {number} rows and has none"
