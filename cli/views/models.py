"""The models that servers have, as a table and as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cli.views.colour import coloured
from cli.views.table import table
from resources import lines_of

if TYPE_CHECKING:
    from control.servers.served import ServedModel

GIB, MIB = 1 << 30, 1 << 20


def lines(found: Iterable[ServedModel]) -> str:
    rows: list[tuple[str, ...]] = [("host", "server", "model", "status", "context", "memory", "card", "")]
    for each in found:
        context = "" if each.context is None else f"{each.context} of {each.trained}" if each.trained else str(each.context)
        rows.append(
            (each.server.host, each.server.name, each.model, each.status, context, _mib(each.memory_mib), _mib(each.card_mib), each.why)
        )
    if not any(row[6] for row in rows[1:]):
        rows = [(*row[:6], row[7]) for row in rows]
    heads, *lines = lines_of(table(rows))
    colours = {"loaded": "+", "sleeping": "+", "unloaded": "", "loading": "@"}
    return "\n".join([heads, *(coloured(line, colours.get(row[3], "-")) for line, row in zip(lines, rows[1:], strict=True))])


def _mib(amount: int | None) -> str:
    return f"{amount} MiB" if amount else ""


def as_data(each: ServedModel) -> dict[str, Any]:
    """For `--json`."""
    return {
        "host": each.server.host,
        "server": each.server.name,
        "kind": each.server.kind,
        "model": each.model,
        "status": each.status,
        "why": each.why or None,
        "context": each.context,
        "context_trained": each.trained,
        "memory_mib": each.memory_mib,
        "card_mib": each.card_mib,
    }


def loaded(found: ServedModel) -> str:
    """`ai/chat-1: qwen-35b is loaded, with a context of 8192 tokens`"""
    context = f", with a context of {found.context} tokens" if found.context else ""
    return f"{found.server.host}/{found.server.name}: {found.model} is {found.status}{context}"


def in_words(size: int) -> str:
    """`41.2 GiB`, `13 MiB`: bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{-(-size // MIB)} MiB"
