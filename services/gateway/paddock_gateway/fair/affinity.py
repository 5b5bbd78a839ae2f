"""Which slot holds whose conversation, and which one a request is to have.

A slot that holds nobody's conversation, or another user's, is taken with `cache_prompt` off: llama-server then reads the whole prompt
anew, and what the slot holds afterwards is this user's alone. So it is with every slot at first, for the back end may be older than
this gateway.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import count
from typing import TypeAlias

_uses = count(1)

Rank: TypeAlias = "tuple[float, ...]"
"""The least is the best."""


class Slot:
    __slots__ = ("busy", "number", "prefixes", "used", "user")

    def __init__(self, number: int) -> None:
        self.number, self.busy, self.used = number, False, 0
        self.user: str | None = None
        """None: nobody's."""
        self.prefixes: tuple[bytes, ...] = ()

    def forget(self) -> None:
        self.user, self.prefixes = None, ()

    def match(self, prefixes: tuple[bytes, ...]) -> int:
        """How many messages of the conversation it holds from the start. Each digest covers all before it, so equal ones come first."""
        mine = self.prefixes
        if not mine or not prefixes or mine[0] != prefixes[0]:
            return 0
        return bisect_left(range(min(len(mine), len(prefixes))), True, key=lambda at: mine[at] != prefixes[at])


class Process:
    """A llama-server's slots: those of a back end or, on a router, of one of its models, which is a process of its own."""

    __slots__ = ("ended", "epoch", "loaded_at", "model", "places", "running", "slots", "unnumbered")

    def __init__(self, model: str, places: int) -> None:
        self.model = model
        self.slots: list[Slot] = []
        self.running = self.epoch = 0
        """`epoch` changes when the process lost what it held."""
        self.loaded_at = self.ended = float("-inf")
        self.resize(places)

    def resize(self, places: int) -> None:
        """What runs in a slot that went away runs on; nothing starts there."""
        self.unnumbered = places < 1
        self.places = max(1, places)
        while len(self.slots) < self.places:
            self.slots.append(Slot(len(self.slots)))
        while len(self.slots) > self.places and not self.slots[-1].busy:
            self.slots.pop()

    def forget(self) -> None:
        self.epoch += 1
        for slot in self.slots:
            slot.forget()

    @property
    def free(self) -> bool:
        return self.running < self.places

    def best(self, user: str, prefixes: tuple[bytes, ...], shared: bool) -> tuple[Rank, Slot] | None:
        """The free slot with the longest part of the user's conversation (of these, the one that loses least by it); then nobody's,
        then one of the user's own, then another's that begins with the same system prompt where that may be shared, then another's:
        the least recently used of each. A slot that is warm but busy is not waited for: how long a generation goes on nobody knows, and a
        prompt is read many times faster than an answer is written.

        The rank compares slots of several processes: a match goes first, else the process that is least busy.
        """
        if self.running >= self.places:
            return None
        best: tuple[Rank, Slot] | None = None
        busy = self.running / self.places
        for slot in self.slots[: self.places]:
            if slot.busy:
                continue
            rank: Rank
            if slot.user == user:
                match = slot.match(prefixes)
                rank = (0, -match, len(slot.prefixes) - match, busy, slot.used) if match else (1, busy, 1, slot.used)
            elif slot.user is None:
                rank = (1, busy, 0, slot.used)
            elif shared and prefixes and slot.prefixes[:1] == prefixes[:1]:
                rank = (1, busy, 2, slot.used)
            else:
                rank = (1, busy, 3, slot.used)
            if best is None or rank < best[0]:
                best = rank, slot
        return best

    def may_cache(self, slot: Slot, user: str, prefixes: tuple[bytes, ...], shared: bool) -> bool:
        """Whether nothing that the slot holds is another's."""
        if self.unnumbered:
            return False
        return slot.user == user or (shared and slot.user is not None and bool(prefixes) and slot.prefixes[:1] == prefixes[:1])

    def start(self, slot: Slot) -> None:
        self.running += 1
        slot.busy, slot.used = True, next(_uses)
        slot.forget()

    def end(self, slot: Slot, now: float) -> None:
        self.running -= 1
        self.ended = now
        slot.busy, slot.used = False, next(_uses)
        self.resize(0 if self.unnumbered else self.places)
