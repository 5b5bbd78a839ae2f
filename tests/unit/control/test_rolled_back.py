"""Which entry a rollback chooses, and what is said of a host that was rolled back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import control.deployment.survey as module
from control.deployment.deployment import Deployment
from control.deployment.knowledge import knowledge_for
from control.deployment.otherwise import otherwise, taken_back
from control.deployment.replay import digest_of, packed, release_of
from control.deployment.work import Work
from control.lifecycle.rollback import Kept, as_data, chosen, prepare
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from resources import File, ModelFile, Release
from resources.drift import drift
from resources.history import HostHistory, Line
from resources.probe import Actual
from roles.host_plan import host_plan
from tests.unit.roles.small_fleet import Small

FIRST = Line(1, "done", datetime(2026, 11, 28, 9, 0, tzinfo=UTC), "up", "home", "0.3.34-1f0c8a2b3c4d", "ada@desk", "1" * 16)
SECOND = replace(FIRST, number=2, release="0.3.36-c1ab048204f6", digest="2" * 16)
THIRD = replace(FIRST, number=3, digest="3" * 16)

HARDWARE = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), 2, 15900, "debian 13", identity="this one", libc="2.41")
SERVING = {"base": {"time": "elsewhere"}, "llama_cpp": {"ui": False}, "models": {}, "llama_server": {"models": ["demo"]}}


@pytest.fixture
def back(state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployment]:
    """A deployment of hosts that each have had two configurations, of which the older was what the inventory says now, but for a context
    of 2048. `said` is host → what it says of its entry."""

    def deployment(*names: str, said: Mapping[str, bytes] | None = None, release: str = "") -> Deployment:
        def fleet(context: int) -> Fleet:
            hosts = {name: {"name": name, "address": f"192.0.2.{at}", "roles": SERVING} for at, name in enumerate(names, 1)}
            return fleet_of(hosts=hosts, models={"demo": {"preset": {"ctx-size": context}}})

        for name in names:
            state.save_hardware(name, HARDWARE)
        older = fleet(2048)
        plans = {name: host_plan(older.hosts[name], older, knowledge_for(older, state, now=datetime.now(UTC))) for name in names}
        entries = {name: packed(name, plan, older) for name, plan in plans.items()} | dict(said or {})
        one = next(each for part in plans[names[0]].values() for each in part if isinstance(each, Release))
        there = {one.id: {**one.identity, "fingerprint": release or one.fingerprint, "current": "/another"}}
        models = [each for part in plans[names[0]].values() for each in part if isinstance(each, ModelFile)]
        there |= {each.id: dict(each.desired) for each in models}

        def probed(run: object, resources: Mapping[str, object], *, deep: bool = False) -> dict[str, Actual]:
            clock, known = int(datetime.now(UTC).timestamp()), history(FIRST, SECOND)
            return {name: Actual(there, clock=clock, identity=HARDWARE.identity, history=known) for name in resources}

        monkeypatch.setattr(module, "probe", probed)
        made = Deployment(fleet(4096), state, tuple(fleet(4096).hosts.values()), verb="rollback")
        monkeypatch.setattr(made.run, "said", lambda scripts: {name: [b64encode(entries[name]).decode()] for name in scripts})
        return made

    return deployment


def context_of(work: Work) -> str:
    return next(each.data.decode() for each in work.resources if isinstance(each, File) and each.path.endswith("presets.ini"))


def test_there_is_to_do_what_leads_back_and_each_host_is_asked_for_its_own(back: Callable[..., Deployment]) -> None:
    deployment = back("one", "two")
    found = prepare(deployment)
    assert deployment.failures == {} and list(deployment.work) == ["one", "two"] == list(found.entries)
    for name, work in deployment.work.items():
        assert "ctx-size = 2048" in context_of(work)
        assert found.fleets[name].models["demo"].preset["ctx-size"] == 2048
    deployment.outdated()
    assert "ctx-size = 2048" in context_of(Work(deployment.plans.of(deployment.hosts[0]), Actual(), drift({}, Actual())))


def test_a_host_whose_entry_is_damaged_fails_alone(back: Callable[..., Deployment]) -> None:
    deployment = back("one", "two", said={"one": b"nonsense"})
    prepare(deployment)
    assert list(deployment.work) == ["two"]
    assert deployment.failures == {"one": "entry 1: it is damaged: nothing can be read of it"}


def test_without_its_release_nothing_is_done_there(back: Callable[..., Deployment]) -> None:
    deployment = back("one", release="of another")
    prepare(deployment)
    assert deployment.work == {}
    assert "entry 1 serves release" in deployment.failures["one"] and "Nothing was changed there" in deployment.failures["one"]


def test_a_rollback_is_noted_with_the_number_of_its_entry_and_up_with_that_of_what_it_brings(back: Callable[..., Deployment]) -> None:
    deployment = back("one")
    known = history(FIRST, SECOND)
    newer = deployment.plans.entry("one", known, "up")
    assert newer and newer.line.number == 3 and newer.plan, "what the inventory says is in no entry"
    third = HostHistory((*known.lines, newer.line), frozenset({1, 2, 3}))
    assert deployment.plans.entry("one", third, "up") is None
    prepare(deployment)
    older = deployment.plans.entry("one", third, "rollback")
    assert older and (older.line.number, older.line.verb, older.line.digest, older.plan) == (1, "rollback", FIRST.digest, b"")
    deployment.plans.earlier.clear()
    deployment.outdated()
    again = deployment.plans.entry("one", HostHistory((*third.lines, older.line), third.entries), "up")
    assert again and (again.line.number, again.plan) == (3, b"")


def test_a_number_that_no_host_has_leaves_all_as_they_are(back: Callable[..., Deployment]) -> None:
    deployment = back("one", "two")
    found = prepare(deployment, 7)
    assert found.left == dict.fromkeys(("one", "two"), "its history has no entry 7: it has 2, 1")
    assert deployment.work == {} and deployment.failures == {}


def history(*lines: Line) -> HostHistory:
    return HostHistory(lines, frozenset(each.number for each in lines))


def test_without_a_number_it_is_what_the_host_had_before() -> None:
    assert chosen(history(FIRST, SECOND)) == FIRST
    assert chosen(history(FIRST, SECOND, FIRST)) == SECOND


def test_with_a_number_it_is_that_entry() -> None:
    assert chosen(history(FIRST, SECOND, THIRD), 1) == FIRST
    begun = replace(THIRD, state="begun")
    assert chosen(history(FIRST, SECOND, begun), 2) == SECOND


@pytest.mark.parametrize(
    ("known", "to", "words"),
    [
        (history(), None, "its history is empty"),
        (history(FIRST), None, "no other configuration"),
        (history(FIRST, SECOND), 2, "entry 2 is what it has"),
        (history(FIRST, SECOND), 7, "no entry 7: it has 2, 1"),
        (history(FIRST, replace(SECOND, state="begun")), 2, "no entry 2: it has 1"),
    ],
)
def test_what_there_is_not_is_said(known: HostHistory, to: int | None, words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        chosen(known, to)


def test_the_list_says_what_is_possible() -> None:
    kept = Kept(HostHistory((FIRST, SECOND, THIRD), frozenset({1, 3})), frozenset({SECOND.release}))
    (listed,) = as_data({"ai": kept}).values()
    assert [(each["entry"], each["possible"], each["current"], each["before"]) for each in listed] == [
        (3, True, True, False),
        (2, False, False, True),
        (1, True, False, False),
    ]


def test_a_host_that_was_rolled_back_says_so_until_it_is_as_the_inventory_says() -> None:
    small = Small()
    plan = host_plan(small.fleet.hosts["one"], small.fleet, small.context)
    back = replace(FIRST, verb="rollback")

    def said(*lines: Line, fleet: str = "home") -> str:
        return taken_back(plan, history(*lines), fleet)

    words = said(FIRST, SECOND, back)
    assert words.startswith("rolled back to 0.3.34-1f0c8a2b3c4d (entry 1) on 2026-11-28 09:00 UTC by ada@desk; the inventory says ")
    assert release_of(plan) in words and "the next `paddock up` brings that back, unless" in words
    assert said(FIRST, SECOND, replace(back, digest=digest_of(plan))) == ""
    assert said(FIRST, SECOND) == said(SECOND, replace(back, state="begun")) == said() == said(back, fleet="other") == ""


def test_a_host_whose_release_is_another_says_since_which_run_and_what_the_next_does() -> None:
    small = Small()
    plan = host_plan(small.fleet.hosts["one"], small.fleet, small.context)
    mended = replace(SECOND, number=3, verb="certs-renew", at=datetime(2026, 11, 30, 9, 0, tzinfo=UTC))
    words = otherwise(plan, history(FIRST, SECOND, mended), "home")
    assert words == (
        f"has {SECOND.release} since 2026-11-28 09:00 UTC (entry 2, up by ada@desk); the inventory says {release_of(plan)}: "
        "the next `paddock up` brings that"
    )
    assert otherwise(plan, history(FIRST, replace(SECOND, release=release_of(plan))), "home") == ""
    assert otherwise(plan, history(), "home") == otherwise(plan, history(FIRST), "other") == ""
    back = replace(FIRST, verb="rollback")
    assert otherwise(plan, history(SECOND, back), "home") == taken_back(plan, history(SECOND, back), "home") != ""
