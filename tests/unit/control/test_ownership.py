"""Whose a host is, and what a run does with one that is another state's. What the hosts say stands here in place of their probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control.deployment import survey as module
from control.deployment.admission import push, require_time
from control.deployment.compile import compile_for
from control.deployment.deployment import Deployment
from control.deployment.ownership import refusal, stranger
from control.deployment.work import Work
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.lineage import Lineage, lineage_of, note_change, told_hosts
from control.state.lock import Holder
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from resources import File, Resource
from resources.drift import drift
from resources.owner import UNREADABLE, Owner
from resources.probe import Actual
from tests.unit.roles.small_fleet import SERVING

PEA = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), 2, 15900, "debian 13", identity="this")
THEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OURS = Lineage("a" * 16, THEN, (THEN - timedelta(days=9), THEN))

MOTD, CA, OLD = File("/etc/motd", "ours"), File("/etc/caddy/paddock/ca.pem", "ours"), "file:/etc/caddy/paddock/clients/phone.pem"


# Whose it is


@pytest.mark.parametrize(
    "owner",
    [None, Owner("home", OURS.id, THEN), Owner("home", OURS.id, THEN - timedelta(days=9))],
    ids=["nobody's", "as it is now", "not been to since"],
)
def test_a_host_that_is_nobodys_or_of_this_state_is_no_strangers(owner: Owner | None) -> None:
    assert stranger(owner, "home", OURS) == ""


def test_a_host_of_another_fleet_is_told_by_its_name() -> None:
    assert stranger(Owner("office", OURS.id, THEN), "home", OURS) == "belongs to fleet office, not to fleet home"


@pytest.mark.parametrize("lineage", [None, OURS], ids=["no state at all", "a new one"])
def test_a_host_of_this_fleet_with_another_id_says_that_the_state_was_lost(lineage: Lineage | None) -> None:
    words = "belongs to another state of fleet home: the one here was lost, or made anew"
    assert stranger(Owner("home", "b" * 16, THEN), "home", lineage) == words


def test_a_host_that_knows_a_newer_state_says_of_when_both_are() -> None:
    words = "was last changed with a newer copy of the state: of 2026-03-01 12:00:07 UTC, the one here is of 2026-03-01 12:00:00 UTC"
    assert stranger(Owner("home", OURS.id, THEN + timedelta(seconds=7)), "home", OURS) == words


def test_so_does_one_that_was_changed_with_another_copy_before_this_one_was_changed_itself() -> None:
    assert "with another copy of the state: of 2026-02-28" in stranger(Owner("home", OURS.id, THEN - timedelta(days=1)), "home", OURS)


def test_words_that_cannot_be_read_are_somebodys() -> None:
    assert "cannot read" in stranger(UNREADABLE, "home", OURS)


# What is told


def work(owner: Owner, plan: Mapping[str, tuple[Resource, ...]]) -> Work:
    there = {each.id: {**each.desired, "sha256": "another"} for each in (MOTD, CA)}
    actual = Actual(there, manifest={MOTD.id: "put", CA.id: "put", OLD: "put"}, owner=owner)
    return Work(plan, actual, drift(plan, actual))


def test_a_refusal_names_what_would_be_replaced_and_removed_and_how_to_ask_for_it(state: FleetState) -> None:
    found = refusal("pea", "belongs to fleet office", work(Owner("office", "b" * 16, THEN), {"base": (MOTD, CA)}), "home", state.path)
    assert found == (
        "belongs to fleet office. Nothing was changed there. Leave it to its owner, or take it over, which "
        f"replaces 2 resources ({MOTD.id}, {CA.id}) and removes 1 resource ({OLD}): "
        "`paddock plan --limit pea` shows all of it, `paddock up --limit pea --take-over` does it"
    )


def test_a_teardown_is_refused_with_what_it_would_remove(state: FleetState) -> None:
    found = refusal("pea", "belongs to fleet office", work(Owner("office", "b" * 16, THEN), {}), "home", state.path)
    assert (
        f"take it over, which removes 3 resources ({OLD}, {CA.id}, {MOTD.id}): `paddock teardown --limit pea --take-over` does it" in found
    )


def test_of_a_lost_or_old_state_the_first_advice_is_to_put_the_newest_back(state: FleetState) -> None:
    found = refusal("pea", "whose", work(Owner("home", "b" * 16, THEN), {"base": (MOTD,)}), "home", state.path)
    assert (
        f"Put the newest state back into {state.path}, from a backup or from git (`paddock state adopt` where it is lost), or take it over"
        in found
    )


# What is done


def hosts(fleet_of: Callable[..., Fleet], *names: str) -> Fleet:
    """Each with a server, and a site of its own before it."""
    found = {}
    for at, name in enumerate(names, 1):
        site = {f"{name}.home.example": {"upstream": name}}
        roles = {**SERVING, "llama_server": {"models": ["demo"]}, "caddy": {"sites": site}}
        found[name] = {"name": name, "address": f"192.0.2.{at}", "roles": roles}
    return fleet_of(hosts=found, models={"demo": {}})


Looked = Callable[..., Deployment]


@pytest.fixture
def looked(state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Looked:
    """A deployment that has looked at its hosts, each given with its owner; the clock of one may be `off`."""

    def look(owners: Mapping[str, Owner | None], *, off: str = "", **how: bool) -> Deployment:
        fleet = hosts(fleet_of, *owners)
        for name in owners:
            state.save_hardware(name, PEA)
        clock = int(datetime.now(UTC).timestamp())
        found = {
            name: Actual(owner=owner, manifest={OLD: "put"}, clock=0 if name == off else clock, identity="this")
            for name, owner in owners.items()
        }
        monkeypatch.setattr(module, "probe", lambda run, resources, *, deep=False: {name: found[name] for name in resources})
        deployment = Deployment(fleet, state, tuple(fleet.hosts.values()), **how)
        deployment.survey()
        return deployment

    return look


OFFICE = Owner("office", "b" * 16, THEN)


def test_a_strangers_host_alone_has_failed_and_the_others_go_on(looked: Looked) -> None:
    deployment = looked({"pea": None, "ai": OFFICE, "door": None})
    assert list(deployment.failures) == ["ai"] and list(deployment.work) == ["pea", "door"]


def test_where_all_hosts_are_strangers_nothing_is_issued(looked: Looked, state: FleetState, authority: Authority) -> None:
    deployment = looked({"pea": OFFICE, "ai": OFFICE})
    assert deployment.issue() == []
    assert authority.cas.signing() is None and authority.leaves.names() == []
    assert lineage_of(state) is None


def test_for_a_strangers_site_nothing_is_signed_while_the_others_get_theirs(looked: Looked, authority: Authority) -> None:
    deployment = looked({"pea": None, "ai": OFFICE})
    assert "certificate server pea.home.example: new" in deployment.issue()
    assert [name for kind, name in authority.leaves.names() if kind == "server"] == ["pea.home.example"]
    assert deployment.due() == []


def test_who_only_looks_sees_strangers_hosts_as_all_others(looked: Looked, state: FleetState) -> None:
    deployment = looked({"pea": None, "ai": OFFICE}, looks=True)
    assert dict(deployment.failures) == {} and list(deployment.work) == ["pea", "ai"]
    assert deployment.strangers == {"ai": "belongs to fleet office, not to fleet home"}
    assert "certificate server ai.home.example: new" in deployment.due()
    assert not (state.path / "fleet.json").exists() and not (state.path / "certs").exists()


def test_nothing_is_signed_for_a_strangers_host_that_fails_for_something_else(looked: Looked) -> None:
    deployment = looked({"pea": None, "ai": OFFICE, "door": None}, off="ai")
    assert "its clock is" in deployment.failures["ai"]
    signed = ["certificate server door.home.example: new", "certificate server pea.home.example: new"]
    assert [line for line in deployment.due() if "server" in line] == signed


def test_where_as_many_hosts_say_another_time_nothing_is_signed(looked: Looked, authority: Authority) -> None:
    """One of the two may be the control machine itself, which agrees in any case."""
    deployment = looked({"pea": None, "ai": None}, off="ai")
    for act in (deployment.due, deployment.issue, deployment.converge):
        with pytest.raises(PaddockError, match=r"hosts say another time than this machine \(ai -\d+ s; pea agrees\): nothing was signed"):
            act()
    assert authority.cas.signing() is None and authority.leaves.names() == []


def test_who_only_looks_sees_what_would_be_signed_whatever_the_clocks(looked: Looked) -> None:
    assert "certificate server pea.home.example: new" in looked({"pea": None, "ai": None}, off="ai", looks=True).due()


def test_by_a_clock_that_is_behind_nothing_is_due_but_to_set_it_right(looked: Looked, authority: Authority) -> None:
    fleet = looked({"pea": None}).fleet
    authority.issue(fleet, datetime.now(UTC) + timedelta(days=100))
    with pytest.raises(PaddockError, match=r"nothing was signed\. Set the clock right"):
        looked({"pea": None}).due()


def test_what_is_over_by_the_hosts_clocks_too_is_told_and_then_forgotten(looked: Looked, authority: Authority) -> None:
    fleet = looked({"pea": None}).fleet
    today = datetime.now(UTC)
    for ago in (170, 140):
        authority.renew(fleet, ["phone"], today - timedelta(days=ago))
    (first,) = authority.leaves.record("client", "phone").earlier
    deployment = looked({"pea": None})
    assert f"client phone: {first.serial}, which expired on {first.not_after:%Y-%m-%d}, is no longer kept" in deployment.due()
    deployment.issue()
    assert authority.leaves.record("client", "phone").earlier == ()


@pytest.mark.parametrize("answer", ["", "no clock here", "4102444800"])
def test_before_a_push_that_signs_the_hosts_are_asked_for_the_time(
    looked: Looked, state: FleetState, authority: Authority, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """One that says nothing of use says nothing against it."""
    fleet = looked({"ai": None}).fleet
    monkeypatch.setattr(Deployment, "connected", nullcontext)
    monkeypatch.setattr("control.ssh.run.Run.said", lambda run, scripts, *, failed=False: {name: [answer] for name in scripts})
    done: list[str] = []

    def begin() -> None:
        push(
            fleet,
            state,
            tell=lambda line: None,
            tell_host=lambda host, line: None,
            ask=lambda question: False,
            changing=lambda deployment, works: None,
            first=lambda: done.append("signed"),
        )

    if answer.isdecimal():
        with pytest.raises(PaddockError, match="hosts say another time than this machine"):
            begin()
        assert done == [] and authority.leaves.names() == []
    else:
        begin()
        assert done == ["signed"]


def test_hosts_that_say_another_time_refuse_a_new_ca(looked: Looked, state: FleetState, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = looked({"ai": None}).fleet
    monkeypatch.setattr(Deployment, "connected", nullcontext)
    for answer, words in (("4102444800", "hosts say another time than this machine"), ("no clock here", "")):
        monkeypatch.setattr(
            "control.ssh.run.Run.said", lambda run, scripts, *, failed=False, said=answer: {name: [said] for name in scripts}
        )
        with pytest.raises(PaddockError, match=words) if words else nullcontext():
            require_time(fleet, state, ask=lambda question: False)


def test_a_host_that_can_have_no_plan_silences_no_other(looked: Looked, state: FleetState) -> None:
    deployment = looked({"pea": None, "ai": None})
    state.save_hardware("ai", replace(PEA, caddy="2.11.3-1"))
    deployment = Deployment(deployment.fleet, state, deployment.hosts)
    deployment.survey(fit=True)
    assert "2.11.3" in deployment.failures["ai"] and list(deployment.work) == ["pea"]
    assert not [line for line in deployment.notices() if "2.11.3" in line]


@pytest.mark.parametrize("leaving", [False, True])
def test_who_takes_over_is_asked_to_do_all_of_it(looked: Looked, leaving: bool) -> None:
    deployment = looked({"ai": OFFICE}, takes_over=True, leaving=leaving)
    assert dict(deployment.failures) == {} and list(deployment.work) == ["ai"]
    assert list(deployment.strangers) == ["ai"]


def test_a_teardown_leaves_a_strangers_host_alone(looked: Looked) -> None:
    deployment = looked({"ai": OFFICE}, leaving=True)
    assert list(deployment.failures) == ["ai"] and deployment.work == {}
    assert "`paddock teardown --limit ai --take-over`" in deployment.failures["ai"]


def test_a_host_that_was_taken_over_is_this_states_and_no_other_copys(looked: Looked, state: FleetState) -> None:
    before = told_hosts(state)
    deployment = looked({"ai": replace(before, changed=before.changed + timedelta(days=1))}, takes_over=True)
    owner = deployment._owner(deployment.work)
    assert owner and owner.id == before.id
    assert stranger(owner, "home", deployment.lineage) == ""
    assert stranger(owner, "home", Lineage(before.id, before.changed, (before.changed,))), "who has the newer copy is to hear of it"


def test_a_change_in_the_state_alone_is_nothing_to_do_on_a_host(looked: Looked, state: FleetState, authority: Authority) -> None:
    looked({"pea": None}).issue()
    owner = told_hosts(state)
    note_change(state)
    deployment = looked({"pea": owner})
    plan = deployment.work["pea"].plan
    there = {each.id: dict(each.desired) for part in plan.values() for each in part}
    noted = {each.id: each.noted_as(Actual()) for part in plan.values() for each in part if each.noted}
    assert not drift(plan, Actual(there, manifest=noted, owner=owner))  # type: ignore[arg-type]
    assert deployment._owner(deployment.work) != owner, "what is changed there the next time notes it"


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (OFFICE.line, "belongs to fleet office, not to fleet home. Nothing was done there"),
        ("fleet what", "cannot read. Nothing was done there"),
        (Owner("home", "b" * 16, THEN).line, "belongs to another state of fleet home"),
        (None, "whose it is cannot be read: nothing was done there"),
        ("", ""),
    ],
)
def test_nothing_is_built_on_a_strangers_host(
    state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch, owner: str | None, words: str
) -> None:
    fleet = hosts(fleet_of, "pea")
    state.save_hardware("pea", PEA)
    carried: list[str] = []
    said = {} if owner is None else {"pea": [owner] if owner else []}
    monkeypatch.setattr("control.llama_cpp.sources.source_archive", lambda *_, **__: state.inventory)
    monkeypatch.setattr(Deployment, "connected", nullcontext)
    monkeypatch.setattr("control.ssh.run.Run.said", lambda run, scripts, *, failed=False: said)
    monkeypatch.setattr(Deployment, "carry", lambda deployment, work: carried.extend(work.keys() - deployment.failures.keys()))
    holder = Holder("a" * 16, "anna@desk", "artifacts build")
    monkeypatch.setattr(Deployment, "take_leases", lambda deployment, names: None)
    failures = compile_for(["pea"], fleet, state, lambda host, line: None, lambda question: False, holder)
    assert words in failures.get("pea", "") and carried == ([] if words else ["pea"]), failures


def test_certificates_are_not_pushed_to_a_strangers_host(
    looked: Looked, state: FleetState, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = looked({"ai": OFFICE}).fleet
    monkeypatch.setattr(Deployment, "connected", nullcontext)
    pushed = push(
        fleet,
        state,
        tell=lambda line: None,
        tell_host=lambda host, line: None,
        ask=lambda question: False,
        changing=lambda deployment, works: None,
    )
    assert (pushed.hosts, pushed.reached) == (("ai",), ()) and "belongs to fleet office" in pushed.failures["ai"]
    assert authority.leaves.names() == []


def test_a_revocation_goes_where_it_can_though_nothing_can_be_signed(
    looked: Looked, state: FleetState, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server certificate of `ai` is due, and a clock contradicts; `pea` needs none."""
    fleet = looked({"pea": None, "ai": None}).fleet
    now = datetime.now(UTC)
    authority.issue(fleet, now - timedelta(days=80))
    authority.renew(fleet, ["pea.home.example", "laptop"], now - timedelta(days=1))
    authority.revoke("phone", now)
    looked({"pea": None, "ai": None})
    monkeypatch.setattr(Deployment, "connected", nullcontext)
    monkeypatch.setattr(Deployment, "require_time", refuse)
    monkeypatch.setattr("control.deployment.admission.parts_of", lambda deployment, part: {})
    told: list[str] = []
    pushed = push(
        fleet,
        state,
        tell=told.append,
        tell_host=lambda host, line: None,
        ask=lambda question: False,
        changing=lambda deployment, works: None,
    )
    assert told == ["nothing was signed"]
    assert (pushed.reached, dict(pushed.failures)) == (("pea",), {"ai": "a certificate is to be issued for it first"})


def refuse(deployment: Deployment) -> None:
    raise PaddockError("nothing was signed")
