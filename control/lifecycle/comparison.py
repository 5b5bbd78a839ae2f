"""A canary's servers measured with the release that they are to have beside the one that they have: one server of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from control.deployment.fit import pools_of
from control.lifecycle.figures import AFTER_LONG, PROMPTS
from control.lifecycle.judgement import Judgement
from control.lifecycle.measuring import Manner, judged, measured
from control.lifecycle.requests import asked_models, requests
from control.ssh.reach import Reach
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from inventory.upgrade import UpgradeSettings
from resources import Reached, Release, Resource, Speed
from roles.llama_cpp.measuring import Side, measurement
from roles.server import Server
from roles.speed import is_timed, mark

MIB = 1 << 20


@dataclass(frozen=True)
class Compared:
    """A server, and how it is to be measured: None where the host has no room for it beside what serves."""

    server: Server
    manner: Manner | None


def chosen(host: str, fleet: Fleet, knowledge: Knowledge) -> tuple[Compared, ...]:
    """Of the host's servers the first of each kind: a router, an instance for chats, one for embeddings, one that ranks. What computes on
    other hosts is none of them."""
    found: dict[tuple[str, str], Server] = {}
    for server in fleet.servers(host):
        if not server.workers:
            found.setdefault((server.kind, asked_models(server, fleet)[0].purpose), server)
    return tuple(Compared(each, _manner(each, fleet, knowledge)) for each in found.values())


def compare(
    reach: Reach,
    server: Server,
    manner: Manner,
    before: str,
    release: Release,
    resources: tuple[Resource, ...],
    settings: UpgradeSettings,
    tell: Callable[[Judgement], None],
) -> Judgement:
    """`before` is the release that serves, as its directory is called. Both are started as `resources` have the server.

    Raises PaddockError where the host cannot measure.
    """
    serving = replace(release, path=f"{release.path.rpartition('/')[0]}/{before}")
    packed = measurement(
        server.unit, Side(serving, resources), Side(release, resources), requests(asked_models(server, reach.fleet), server.kind)
    )

    def measure(rounds: int) -> Iterator[str]:
        return measured(reach, server.host, packed, manner, rounds)

    version = before.rpartition("-")[0]
    return judged(server.host, measure, settings, before if version == release.version else version, tell)


def _manner(server: Server, fleet: Fleet, knowledge: Knowledge) -> Manner | None:
    """Two more servers side by side, or one more at a time, by what is left of the memory that each would take."""
    copies = 2
    for pool in pools_of(server.host, fleet, knowledge):
        own = sorted((row.memory.total for row in pool.rows if row.server == server.name), reverse=True)
        needed = sum(own[: server.models_max or None])
        if needed and pool.room_mib:
            copies = min(copies, max(0, pool.left_mib * MIB // needed))
    return "together" if copies >= 2 else "turns" if copies else None


def reached(judgement: Judgement, server: Server, release: Release, fleet: Fleet) -> Reached | None:
    """What a canary's server reached with the model that was timed; None where that was not measured."""
    model = server.models[0]
    preset = fleet.preset(server, model)
    found = [judgement.reached.get(each) for each in (PROMPTS, AFTER_LONG)]
    prompts, generation = (Speed(each.middle, each.low, each.high) if each else None for each in found)
    if prompts is None or generation is None or not is_timed(server, preset):
        return None
    way = mark(server, model, fleet.models[model].source, preset)
    count = judgement.reached[PROMPTS].count
    return Reached(release.name, way, server.unit, model, prompts, generation, judgement.tokens, count, datetime.now(UTC))
