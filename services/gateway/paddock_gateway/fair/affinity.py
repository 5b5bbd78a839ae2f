"""Which slot holds whose conversation, and which one a request is to have.

A slot that holds nobody's conversation, or another user's, is taken with `cache_prompt` off: llama-server then reads the whole prompt
anew, and what the slot holds afterwards is this user's alone. So it is with every slot at first, for the back end may be older than
this gateway.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from typing import TypeAlias

_uses = count(1)
_used = attrgetter("used")

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
        if mine == prefixes:
            return len(mine)
        if not mine or not prefixes or mine[0] != prefixes[0]:
            return 0
        if len(mine) <= len(prefixes) and mine[-1] == prefixes[len(mine) - 1]:
            return len(mine)
        return bisect_left(range(min(len(mine), len(prefixes))), True, key=lambda at: mine[at] != prefixes[at])


class Process:
    """A llama-server's slots: those of a back end or, on a router, of one of its models, which is a process of its own."""

    __slots__ = ("counting", "ended", "epoch", "loaded_at", "model", "places", "running", "scattered", "slots", "unnumbered")

    def __init__(self, model: str, places: int) -> None:
        self.model = model
        self.slots: list[Slot] = []
        self.running = self.epoch = self.counting = self.scattered = 0
        """`running` are slots in use, `counting` requests that use none, `scattered` those for which llama-server chooses slots itself:
        what it then writes where nobody knows. `epoch` changes when the process lost what it held."""
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
    def active(self) -> bool:
        return bool(self.running or self.counting)

    def has_free(self, places: int) -> bool:
        """A request that wants more than there are is refused by the back end."""
        return self.running + min(places, self.places) <= self.places

    def best(self, user: str, prefixes: tuple[bytes, ...], shared: bool) -> tuple[Rank, Slot] | None:
        """The free slot in which the user's conversation goes on: with its longest part, and with no other that would be lost by it but
        for the last message. Then nobody's; then one of the user who would have most here, the user's own where that is equal, then
        another's that begins with the same system prompt where that may be shared: so nobody takes the last slot of one to have two. Of
        equal ones that of the process that is least busy, the least recently used.

        A slot that is warm but busy is not waited for: how long a generation goes on nobody knows, and a prompt is read many times faster
        than an answer is written. The rank compares slots of several processes.
        """
        busy = self.running / self.places
        free = [slot for slot in self.slots[: self.places] if not slot.busy]
        warm: tuple[Rank, Slot] | None = None
        for slot in free if prefixes else ():
            if slot.user == user and (match := slot.match(prefixes)) > (lost := len(slot.prefixes) - match) <= 1:
                rank: Rank = (0, -match, lost, busy, slot.used)
                if warm is None or rank < warm[0]:
                    warm = rank, slot
        if warm or not free:
            return warm
        nobodys = [slot for slot in free if slot.user is None]
        if nobodys:
            slot = min(nobodys, key=_used)
            return (1, 0, 0, 0, busy, slot.used), slot
        held = Counter(slot.user for slot in free)

        def given_up(slot: Slot) -> Rank:
            if slot.user == user:
                return (1, 1, -held[user] - 1, 0, busy, slot.used)
            same = shared and prefixes and slot.prefixes[:1] == prefixes[:1]
            return (1, 1, -held[slot.user], 1 if same else 2, busy, slot.used)

        slot = min(free, key=given_up)
        return given_up(slot), slot

    def taken(self, slot: Slot, places: int) -> tuple[Slot, ...]:
        """Such a slot, with others of which llama-server may take any."""
        if not places:
            return ()
        others = [each for each in self.slots[: self.places] if not each.busy and each is not slot]
        return (slot, *others[: places - 1])

    def may_cache(self, slot: Slot, user: str, prefixes: tuple[bytes, ...], shared: bool) -> bool:
        """Whether nothing that the slot holds is another's."""
        if self.unnumbered or self.scattered:
            return False
        return slot.user == user or (shared and slot.user is not None and bool(prefixes) and slot.prefixes[:1] == prefixes[:1])

    def start(self, slots: Sequence[Slot], scattered: bool) -> None:
        self.running += len(slots)
        self.counting += not slots
        for slot in slots:
            slot.busy, slot.used = True, next(_uses)
            slot.forget()
        if scattered:
            self.scattered += 1
            self.forget()

    def end(self, slots: Sequence[Slot], scattered: bool, now: float) -> None:
        self.running -= len(slots)
        self.counting -= not slots
        self.ended = now
        for slot in slots:
            slot.busy, slot.used = False, next(_uses)
        if scattered:
            self.scattered -= 1
            self.forget()
        self.resize(0 if self.unnumbered else self.places)
