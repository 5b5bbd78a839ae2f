"""How the commands read and show values: tables for people, JSON for programs."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from paddock_gateway.contract import KeyRecord
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Limits

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(said: str | None) -> float | None:
    """Seconds since 1970 of `2027-01-01`, `2027-01-01T12:00` (UTC where it says no zone) or `30d` from now. Raises Failure 400."""
    if said is None:
        return None
    if found := re.fullmatch(r"(\d{1,6})([mhdw])", said):
        return time.time() + int(found[1]) * UNITS[found[2]]
    try:
        read = datetime.fromisoformat(said.replace("Z", "+00:00"))
        return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise Failure(400, f"--expires: {said!r} is no time: write 2027-01-01 or 30d (m, h, d, w)") from None


def limits(requests: int | None, tokens: int | None, window_s: int | None, parallel: int | None) -> Limits | None:
    """None where nothing is said. Raises Failure 400."""
    said = {"requests": requests, "tokens": tokens, "window_s": window_s, "parallel": parallel}
    given = {name: value for name, value in said.items() if value is not None}
    for name, value in given.items():
        if not 1 <= value <= 2**53:
            raise Failure(400, f"--{name.replace('_', '-')}: a number from 1, not {value}")
    return Limits(**given) if given else None


def show(options: Namespace, said: Any, text: str) -> None:
    print(msgspec.json.encode(said).decode() if options.json else text)


def show_key(options: Namespace, key: str, record: KeyRecord) -> None:
    """A new key: the one time that it can be seen."""
    if options.json:
        show(options, {"key": key} | msgspec.to_builtins(record), "")
    else:
        print(f"{key}\n\nThe key {record.id} of {record.user}. It is shown this once: only its digest is kept.")


KEY_HEADINGS = ("ID", "USER", "LABEL", "KEY", "CREATED", "EXPIRES", "STATE")


def key_line(record: KeyRecord) -> tuple[str, ...]:
    state = "declared" if record.declared else "disabled" if record.disabled else "expired" if _over(record.expires) else "active"
    return (record.id, record.user, record.label, record.hint, _date(record.created or None), _date(record.expires), state)


def limits_line(said: Limits | None) -> str:
    """`60 requests, 10000 tokens in 60 s, 4 at once`"""
    if said is None:
        return "default"
    counted = [f"{amount} {what}" for amount, what in ((said.requests, "requests"), (said.tokens, "tokens")) if amount is not None]
    parts = ([f"{', '.join(counted)} in {said.window_s} s"] if counted else []) + ([f"{said.parallel} at once"] if said.parallel else [])
    return ", ".join(parts) or "none"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> str:
    if not rows:
        return none
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (headings, *rows))


def _date(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%MZ")


def _over(expires: float | None) -> bool:
    return expires is not None and expires <= time.time()
