"""How records of runs look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.views.colour import coloured
from cli.views.table import table
from resources import lines_of
from roles.wording import one_line

if TYPE_CHECKING:
    from control.lifecycle.differences import Difference
    from control.lifecycle.records import HostRecord, Record, RecordedChange

    Compared = Mapping[str, tuple[int | None, tuple[Difference, ...]]]
    """Host → the number of the record that it is compared with, and the differences."""

Collected = tuple[Path | None, Mapping[str, bytes]]
"""Where the evidence of a host is kept, and file → content."""

NAMED = 3
"""So many hosts are named in a row of the table."""

LINES, CHARACTERS = 60, 400
"""So many of the last lines of a file of evidence are shown, and so much of each."""

FIRST = ("control-machine", "outcome")
"""Which files of evidence say most."""


def listed(records: Sequence[Record]) -> str:
    heads = ("run", "when", "who", "verb", "hosts", "changed", "release", "outcome")
    return table([heads, *(_row(each) for each in records)])


def _row(record: Record) -> tuple[str, ...]:
    changed = [name for name, host in record.hosts.items() if host.changes]
    hosts = ", ".join(changed) if len(changed) <= NAMED else f"{len(changed)} hosts"
    switched = list(dict.fromkeys(words for host in record.hosts.values() if (words := _release(host))))
    release = switched[0] if len(switched) == 1 else f"{len(switched)} switches" if switched else "-"
    when = f"{record.began.astimezone():%Y-%m-%d %H:%M}"
    return (str(record.number), when, record.who, record.verb, hosts or "-", str(record.changed), release, _outcome(record))


def _outcome(record: Record) -> str:
    if record.outcome is None:
        return "has not ended"
    if record.outcome != "done":
        failed = [name for name, host in record.hosts.items() if host.failed or host.verified == "FAILED"]
        on = ", ".join(failed) if len(failed) <= NAMED else f"{len(failed)} hosts"
        return f"{record.outcome} on {on}" if failed else record.outcome
    changed = [host for host in record.hosts.values() if host.changes]
    return "verified" if changed and all(host.verified == "yes" for host in changed) else "done"


def _release(host: HostRecord) -> str:
    if not host.after or host.after == host.before:
        return ""
    return f"{host.before or 'none'} → {host.after}"


def shown(record: Record, compared: Compared | None, collected: Mapping[str, Collected] | None = None) -> str:
    """All that a run did, host by host; where it is `compared`, how the plans differ in place of what was done; where evidence was
    `collected`, its end."""
    hosts = (line for name, host in record.hosts.items() for line in _host(record.number, name, host, compared, collected))
    return "\n".join((*_head(record), *hosts))


def _head(record: Record) -> Iterator[str]:
    yield one_line(f"run {record.number}: {record.verb}, by {record.who}")
    took = f", took {(record.ended - record.began).total_seconds():.0f} s" if record.ended else ""
    rows = [
        ("began", f"{record.began.astimezone():%Y-%m-%d %H:%M:%S}{took}"),
        ("outcome", _outcome(record) + (f": {record.failed}" if record.failed else "")),
        ("inventory", f"{record.inventory}, sha256 {record.digest[:16]}"),
        ("paddock", record.paddock),
        *(("state", line) for line in record.words),
    ]
    yield from (f"  {line}" for line in table(rows).split("\n"))


def _host(number: int, name: str, host: HostRecord, compared: Compared | None, collected: Mapping[str, Collected] | None) -> Iterator[str]:
    words = [f"{len(host.changes)} changed", _release(host), f"{host.seconds:.1f} s" if host.seconds else ""]
    words += [f"plan {host.plan}" if host.plan else "", f"verified: {host.verified}" if host.changes else ""]
    yield ""
    yield one_line(f"{name}: {', '.join(filter(None, words))}")
    if host.failed:
        yield one_line(f"  FAILED: {host.failed}")
    for figure, value in host.figures.items():
        yield one_line(f"  {figure}: {value}")
    if compared and name in compared:
        yield from _differences(*compared[name])
    else:
        for change in host.changes:
            yield coloured(one_line(f"  {change.sign} {change.resource}{_what(change)}"), change.sign)
    if collected and name in collected:
        yield from _evidence(*collected[name])
    elif host.evidence:
        yield f"  `paddock history show {number} --evidence` shows what tells why"


def _evidence(place: Path | None, files: Mapping[str, bytes]) -> Iterator[str]:
    if not files:
        yield "  of its evidence nothing is kept any more"
        return
    yield one_line(f"  evidence, in {place}:")
    named = sorted(files, key=lambda file: (file not in FIRST, file))
    yield from (f"    {line}" for line in table([(file, f"{len(files[file]):,} bytes") for file in named]).split("\n"))
    for file in named:
        lines = lines_of(files[file].decode(errors="replace"))
        yield ""
        yield f"  {file}{f', the last {LINES} of {len(lines):,} lines' if len(lines) > LINES else ''}"
        yield from (one_line(f"      {line[:CHARACTERS]}{'…' if len(line) > CHARACTERS else ''}") for line in lines[-LINES:])


def _what(change: RecordedChange) -> str:
    if change.attributes:
        parts = (
            name if name in ("sha256", "size") else f"{name} {a or 'none'} → {b or 'none'}" for name, (a, b) in change.attributes.items()
        )
        return "  " + ", ".join("content" if part == "sha256" else part for part in parts)
    return f"  ({change.action}s)" if change.action in ("restart", "reload", "start", "stop") else ""


def _differences(number: int | None, found: Sequence[Difference]) -> Iterator[str]:
    yield f"  compared with run {number}:" if number is not None else "  there is no earlier record of its plan, which has:"
    if not found:
        yield "  the same"
    for each in found:
        attributes = ", ".join(f"{name} {before or 'none'} → {after or 'none'}" for name, (before, after) in each.attributes.items())
        words = "".join(f"  {part}" for part in (each.note, attributes) if part)
        yield coloured(one_line(f"  {each.sign} {each.resource}{words}"), each.sign)
        for name, lines in each.texts.items():
            if name != "content":
                yield one_line(f"      {name}:")
            yield from (coloured(one_line(f"      {line}"), "@" if line.startswith("@@") else line[:1]) for line in lines)


def as_data(record: Record, compared: Compared | None = None, collected: Mapping[str, Collected] | None = None) -> dict[str, Any]:
    """For `--json`."""
    data = asdict(record)
    for moment in ("began", "ended"):
        data[moment] = data[moment] and data[moment].isoformat()
    for name, (number, found) in (compared or {}).items():
        data["hosts"][name] |= {"compared_with": number, "differences": [asdict(each) for each in found]}
    for name, (place, files) in (collected or {}).items():
        texts = {file: content.decode(errors="replace") for file, content in files.items()}
        data["hosts"][name]["collected"] = {"directory": str(place), "files": texts}
    return data
