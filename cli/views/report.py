"""What a run did, as a table of its hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.views.table import table


def summary(report: Mapping[str, Any], seconds: float) -> str:
    rows = [("host", "changed", "duration", "release", "verified")]
    for name, each in report["hosts"].items():
        changed = "FAILED" if each["failed"] else f"{each['changed']} changed"
        rows.append((name, changed, f"{each['seconds']:.1f} s", each["release"] or "-", each["verified"]))
    return "\n" + table(rows) + f"\n{seconds:.1f} s in all"
