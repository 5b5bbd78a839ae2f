"""How a backup is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from roles.wording import one_line

if TYPE_CHECKING:
    from control.lifecycle.archive import Manifest


def described(manifest: Manifest) -> dict[str, object]:
    """For JSON."""
    return {
        "fleet": manifest.fleet,
        "made": manifest.made,
        "paddock": manifest.paddock,
        "state": {"id": manifest.id, "changed": manifest.changed},
        "files": len(manifest.members),
        "databases": {
            each.host: {"kind": each.record.database, "made": each.record.created, "rows": each.record.rows, "size": each.record.size}
            for each in manifest.databases
        },
    }


def lines_of(manifest: Manifest) -> Iterator[str]:
    yield one_line(f"fleet {manifest.fleet}, made {manifest.made} with Paddock {manifest.paddock}")
    state = [each for each in manifest.members if each.name.startswith("state/")]
    changed = f", last changed {manifest.changed}" if manifest.changed else ""
    yield one_line(f"state: {len(state)} files, {sum(each.size for each in state):,} bytes{changed}")
    for each in manifest.databases:
        yield one_line(f"{each.host}: {each.record.words}, copied {each.record.created}")
