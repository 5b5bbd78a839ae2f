"""What one run changed, as its record says it. A record is JSON, one file a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class RecordedChange:
    """What happened to one resource, as `resources.drift.Change` decided it. `attributes` are name → (before, after), of what was there
    before; a secret's content is none of them."""

    action: str
    resource: str
    sign: str = "~"
    role: str = ""
    attributes: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class HostRecord:
    """`plan` is the digest of the host's whole plan, empty where a part alone was carried out. `before` and `after` are the releases that
    served, empty where none did or nobody can tell. `verified` is `yes`, `by the probe`, `FAILED` or `no`, `failed` why the host has
    failed. `figures` are what was measured there, by name. `evidence` is the id under which control/state/evidence.py keeps what tells
    why the host has not kept what the run brought, empty where there is nothing of that."""

    changes: tuple[RecordedChange, ...] = ()
    plan: str = ""
    before: str = ""
    after: str = ""
    seconds: float = 0.0
    verified: str = "no"
    failed: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""


@dataclass(frozen=True)
class Record:
    """`who` is user@machine, `paddock` the version that ran, `digest` the sha256 of the inventory file at `inventory`. `words` say what was
    done to the state, a line each. `outcome` is `done`, `failed`, `interrupted` or `taken back`; it and `ended` are None for as long as
    the run has not ended: it is at work, or was killed. `failed` is what ended the whole run."""

    number: int
    verb: str
    who: str
    began: datetime
    paddock: str
    inventory: str
    digest: str
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    ended: datetime | None = None
    outcome: str | None = None
    failed: str = ""

    def __post_init__(self) -> None:
        for each in (self.began, self.ended):
            if each and (each.tzinfo is None or not 1970 < each.year < 9000):
                raise ValueError("is no time of a run")

    @property
    def changed(self) -> int:
        """How much was to change, on all hosts."""
        return sum(len(each.changes) for each in self.hosts.values())


def written(record: Record) -> bytes:
    return _type().dump_json(record, indent=1, exclude_defaults=True) + b"\n"


def read(data: bytes) -> Record:
    """Raises ValueError for what is no record. What another version of Paddock says beyond this one's is left out."""
    return _type().validate_json(data)


@cache
def _type() -> TypeAdapter[Record]:
    return TypeAdapter(Record)
