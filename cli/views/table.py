"""Columns of text."""

from __future__ import annotations

from collections.abc import Sequence

from roles.wording import one_line


def table(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
