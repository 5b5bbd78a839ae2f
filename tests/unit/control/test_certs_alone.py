"""Of a host's work, what is of its certificates alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from control.deployment.bearers import bearing, certificates_alone
from control.deployment.work import Work
from inventory.fleet import Fleet
from resources import File, Resource
from resources.drift import drift
from resources.probe import Actual
from roles.host_plan import host_plan
from tests.unit.roles import everything

PRESETS = File("/etc/paddock/llama-server/presets.ini", "[big]")
LIST = File("/etc/caddy/paddock/sites.caddy", "two")
LEAF = File("/etc/caddy/paddock/clients/laptop.pem", "a certificate")
SEAT = File("/etc/paddock/clients/ann/certs/client.pem", "a certificate")
GONE = "file:/etc/caddy/paddock/clients/phone.pem"
ELSEWHERE = "file:/etc/paddock/left.conf"

PLAN: dict[str, tuple[Resource, ...]] = {"llama_server": (PRESETS,), "caddy": (LIST, LEAF), "client": (SEAT,)}


def work(manifest: dict[str, str], *there: File) -> Work:
    actual = Actual({each.id: dict(each.desired) for each in there}, manifest=manifest)
    return Work(PLAN, actual, drift(PLAN, actual))


def changes(of: Work) -> list[str]:
    return [f"{each.sign} {each.id}" for each in of.drift.changes]


def test_only_roles_that_lay_certificates_and_only_where_they_have_before() -> None:
    found = work({LIST.id: "put", GONE: "put", ELSEWHERE: "put"})
    assert len(changes(found)) == 6
    alone = certificates_alone(found)
    assert changes(alone) == [f"- {GONE}", f"+ {LIST.id}", f"+ {LEAF.id}"]
    assert alone.drift.manifest == {LIST.id: "put", ELSEWHERE: "put", LEAF.id: "put"}
    assert alone.drift.claims == {LIST.id: "put", ELSEWHERE: "put", LEAF.id: "put", GONE: "put"}
    assert not alone.drift.recorded
    assert alone.needs == {}


def test_a_hop_that_left_the_inventory_stays_whole() -> None:
    hop = ("service:paddock-caddy-tunnel-far.8080.service", "file:/etc/paddock/caddy-tunnel/far.8080.cfg")
    alone = certificates_alone(work({LIST.id: "put", **dict.fromkeys(hop, "put")}))
    assert not alone.drift.gone and set(hop) <= set(alone.drift.manifest)


def test_a_seat_is_brought_up_to_date_where_there_is_one() -> None:
    assert changes(certificates_alone(work({SEAT.id: "put"}))) == [f"+ {SEAT.id}"]


def test_of_an_account_whose_client_is_thrown_out_certificate_key_and_programs_go_and_nothing_else(
    fleet_of: Callable[..., Fleet],
) -> None:
    """All that the role has laid for the account, but for packages and what belongs to all accounts."""
    fleet = everything.fleet()
    host, known = fleet.hosts["desk"], everything.context(fleet)
    before = host_plan(host, fleet, known)["client"]
    seat = [each.id for each in before if each.noted and re.search(r"clients/ann|paddock-(bridge|browsers|profiles|seat)-ann", each.id)]
    after = {"client": host_plan(host, fleet, replace(known, clients={}))["client"]}
    actual = Actual(
        {each.id: dict(each.desired) for each in before}, manifest={each.id: "put" for each in before if each.noted} | {ELSEWHERE: "put"}
    )
    alone = certificates_alone(Work(after, actual, drift(after, actual)))
    assert sorted(alone.drift.gone) == sorted(seat) and len(seat) > 20
    assert {"service:paddock-bridge-ann.service", "file:/etc/paddock/clients/ann/certs/client-key.pem"} <= set(alone.drift.gone)
    assert not set(seat) & set(alone.drift.manifest) and ELSEWHERE in alone.drift.manifest


def test_on_a_host_that_paddock_has_not_been_to_there_is_nothing_to_do() -> None:
    alone = certificates_alone(work({}))
    assert changes(alone) == [] and not alone.drift


def test_where_all_is_as_declared_there_is_nothing_to_do() -> None:
    found = work({LIST.id: "put", LEAF.id: "put", SEAT.id: "put"}, LIST, LEAF, SEAT)
    assert changes(found) == [f"+ {PRESETS.id}"]
    assert not certificates_alone(found).drift


def test_hosts_that_carry_certificates_are_those_with_a_door_or_a_seat(fleet_of: Callable[..., Fleet]) -> None:
    door = {"name": "door", "address": "192.0.2.7", "roles": {"caddy": {"sites": {"ai.home.example": {"upstream": "ai"}}}}}
    desk = {"name": "desk", "address": "192.0.2.8", "roles": {"client": {"accounts": {"ann": {"client": "laptop"}}}}}
    fleet = fleet_of(hosts={"door": door, "ai": {"name": "ai", "address": "192.0.2.9", "roles": {"models": {}}}, "desk": desk})
    assert [host.name for host in bearing(fleet)] == ["door", "desk"]


def test_what_is_for_clients_alone_leaves_the_tunnels_between_hosts_as_they_are() -> None:
    """Its other end is not asked, and would refuse a certificate that it does not know."""
    tunnel = File("/etc/paddock/caddy-tunnel/ai.8080.cfg", "of the next certificate")
    plan = {"caddy": (LIST, LEAF, tunnel)}
    actual = Actual({each.id: {} for each in plan["caddy"]}, manifest={each.id: "put" for each in plan["caddy"]})
    found = Work(plan, actual, drift(plan, actual))
    both, one = ({each.id for each in certificates_alone(found, of_clients=only).drift.changes} for only in (False, True))
    assert both == {LIST.id, LEAF.id, tunnel.id} and one == {LIST.id, LEAF.id}
