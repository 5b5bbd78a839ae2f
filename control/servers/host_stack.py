"""A stack of a host, as the command line means it."""

from __future__ import annotations

from dataclasses import dataclass

from resources import Stack


@dataclass(frozen=True)
class HostStack:
    """A stack of a host; `only` are the containers of it that are meant, all where none is named."""

    host: str
    stack: Stack
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`crate`, with its containers where not all are meant: `crate/one`, `crate/one,two`."""
        return "/".join(filter(None, (self.stack.name, ",".join(self.only))))

    @property
    def many(self) -> int:
        return len(self.only or self.stack.containers)
