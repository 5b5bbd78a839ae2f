"""The plans of a run: each is made once for a state of knowledge, and handed on to whoever shows, does or checks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from control.deployment import replay
from control.deployment.knowledge import knowledge_for
from control.deployment.replay import Entry
from control.state.fleet import FleetState
from control.state.lock import operator
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Package, Resource
from resources.history import PACKED_MOST, HostEntry, HostHistory, Line
from roles.host_plan import HostPlan, host_plan, rolls_back


class Plans:
    """What is known beyond the inventory, and what hosts are to be with that."""

    def __init__(self, fleet: Fleet, state: FleetState, vault: Vault | None = None) -> None:
        self._fleet, self._state, self._vault = fleet, state, vault
        self._knowledge: Knowledge | None = None
        self._made: dict[str, HostPlan | PaddockError] = {}
        self.earlier: dict[str, Entry] = {}
        """Host → what it is to be again, as far as that rolls back."""
        self.offered: Mapping[str, Mapping[str, str]] = {}
        """Host → the versions of the distribution's packages that it is to have now, by their names. The inventory names none."""

    @property
    def knowledge(self) -> Knowledge:
        """Raises PaddockError where what is kept cannot be read or does not fit."""
        if self._knowledge is None:
            self._knowledge = knowledge_for(self._fleet, self._state, now=datetime.now(UTC), vault=self._vault)
        return self._knowledge

    def of(self, host: Host) -> HostPlan:
        """Raises PaddockError where there can be none."""
        if host.name not in self._made:
            try:
                self._made[host.name] = self._of(host)
            except PaddockError as error:
                self._made[host.name] = error
        made = self._made[host.name]
        if isinstance(made, PaddockError):
            raise made
        return made

    def _of(self, host: Host) -> HostPlan:
        today = self._with_offered(host)
        entry = self.earlier.get(host.name)
        return host_plan(host, self._fleet, self.knowledge, entry.parts(today)) if entry else today

    def _with_offered(self, host: Host) -> HostPlan:
        knowledge, versions = self.knowledge, self.offered.get(host.name, {})
        if not versions:
            return host_plan(host, self._fleet, knowledge)
        if machine := knowledge.hardware.get(host.name):  # what Caddy reads goes by its version
            machine = replace(machine, caddy=versions.get("caddy", machine.caddy))
            knowledge = replace(knowledge, hardware={**knowledge.hardware, host.name: machine})
        plan = host_plan(host, self._fleet, knowledge)
        return {role: tuple(_offered(part, versions)) for role, part in plan.items()}

    def entry(self, host: str, history: HostHistory, verb: str) -> HostEntry | None:
        """What the host is to keep of what it gets by its plan; None where it has just that, or nothing that rolls back."""
        plan, earlier, fleet = self.of(self._fleet.hosts[host]), self.earlier.get(host), self._fleet
        digest = earlier.line.digest if earlier else replay.digest_of(plan)
        number = earlier.line.number if earlier else history.number_for(fleet.name, digest)
        newest, has_entry = history.of(fleet.name).newest, number in history.entries
        is_whole = newest and has_entry and (newest.state, newest.digest) == ("done", digest)
        if is_whole or not (newest or any(map(rolls_back, plan))):
            return None
        packed = b"" if has_entry else replay.packed(host, plan, fleet)
        line = Line(number, "done", datetime.now(UTC), verb, fleet.name, replay.release_of(plan), operator(), digest)
        return HostEntry(line, packed if len(packed) <= PACKED_MOST else b"", history.spare(number))

    def outdated(self) -> None:
        """Something was learned, issued or taken in: what is known, and the plans, are made anew."""
        self._knowledge = None
        self._made.clear()


def _offered(part: Iterable[Resource], versions: Mapping[str, str]) -> Iterator[Resource]:
    """`postgresql` stands for the `postgresql-17` that it brings."""
    for each in part:
        if not isinstance(each, Package) or each.version:
            yield each
            continue
        brought = {name: version for name, version in versions.items() if name == each.name or name.startswith(f"{each.name}-")}
        if each.name not in brought:
            yield each
        for name, version in brought.items():
            yield replace(each, name=name, version=version)
