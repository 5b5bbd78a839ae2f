"""The keys of gateways' users, as a table, one by one, and as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.views.table import table
from roles.wording import one_line

if TYPE_CHECKING:
    from control.servers.listed_keys import ListedKey


def lines(found: Iterable[ListedKey]) -> str:
    return table([("user", "id", "key", "models", "limits", "expires", "state", "where"), *map(_row, found)])


def _row(each: ListedKey) -> tuple[str, ...]:
    where = "inventory" if each.declared else ", ".join(each.where)
    return each.user, each.id or "-", each.hint or "-", _models(each), _limits(each), _day(each.expires), each.state, where


def details(each: ListedKey) -> Iterator[str]:
    """A line a fact, for one key."""
    yield f"{one_line(each.user)}: {each.id or 'declared in the inventory'}"
    facts = [
        *(("label", each.label), ("key", each.hint), ("state", each.state), ("models", _models(each)), ("limits", _limits(each))),
        *(("weight", f"{each.weight:g}"), ("administrator", "yes" if each.admin else ""), ("made", _day(each.created))),
        *(("expires", _day(each.expires)), ("where", ", ".join(each.where))),
    ]
    yield table([(f"  {name}", value) for name, value in facts if value not in ("", "-")])


def as_data(each: ListedKey) -> dict[str, Any]:
    """For `--json`; times as ISO 8601 in UTC."""
    return {**asdict(each), "created": _iso(each.created), "expires": _iso(each.expires)}


def _models(each: ListedKey) -> str:
    return "all" if each.models is None else ", ".join(each.models[:8]) + (", …" if len(each.models) > 8 else "") or "none"


def _limits(each: ListedKey) -> str:
    """`60 requests, 100000 tokens in 60 s, 2 at once`"""
    counts = [f"{each.limits[name]} {name}" for name in ("requests", "tokens") if name in each.limits]
    window = [f"{', '.join(counts)} in {each.limits.get('window_s', 60)} s"] if counts else []
    at_once = [f"{each.limits['parallel']} at once"] if "parallel" in each.limits else []
    return ", ".join([*window, *at_once]) or "-"


def _day(moment: float | None) -> str:
    return "-" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
