"""Certificates as a table, and as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.views.table import table

if TYPE_CHECKING:
    from control.pki.listing import Listed


def lines(found: Iterable[Listed]) -> str:
    return table([("kind", "name", "serial", "valid until", "days", "status", "where"), *map(_row, found)])


def _row(each: Listed) -> tuple[str, ...]:
    until = f"{each.until:%Y-%m-%d}" if each.until else "-"
    days = "-" if each.days_left is None else str(each.days_left)
    return each.kind, each.name, each.serial or "-", until, days, each.status, ", ".join(each.where) or "-"


def as_data(each: Listed) -> dict[str, Any]:
    """For `--json`."""
    return {**asdict(each), "until": each.until.isoformat() if each.until else None}
