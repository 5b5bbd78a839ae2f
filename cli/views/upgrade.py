"""What an upgrade is to do: who gets which version, the canaries, and the waves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cli.views.table import table

if TYPE_CHECKING:
    from control.lifecycle.components import HostUpgrade
    from control.lifecycle.waves import Wave


def planned(upgrades: Iterable[HostUpgrade], waves: Sequence[Wave]) -> Iterator[str]:
    canaries = set(waves[0].hosts) if waves else set()
    rows = [("host", "serves", "is to serve", "for", "")]
    rows += [(each.host, each.before, each.after, _what(each), "canary" if each.host in canaries else "") for each in upgrades]
    if len(rows) > 1:
        yield table(rows)
    for wave in waves:
        yield f"{wave.name}: {', then '.join(' with '.join(batch) for batch in wave.batches)}"


def _what(upgrade: HostUpgrade) -> str:
    """The class of machines that a release is built for; of other programs which one it is."""
    return upgrade.release.profile if upgrade.release else upgrade.component
