"""A service that ran before Paddock came, and that others use: it goes on where a reload is enough, and what it reads is kept meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from resources import Directory, File, Line, Package, Port, Service
from resources.base import Origin
from resources.drift import Change, drift
from resources.probe import Actual
from resources.steps import Steps

PACKAGE = Package("x")
DROPIN = File("/etc/systemd/system/x.service.d/40.conf", "[Service]\n")
DIRECTORY = Directory("/etc/x/paddock", exclusive=True)
SITE = File("/etc/x/paddock/site", "site")
LINE = Line("/etc/x/x.conf", "import paddock/*")
SERVICE = Service("x.service", restarts=(PACKAGE, DROPIN), reloads=(DIRECTORY, SITE, LINE), validate=("true",), joins=True)
RESOURCES = (PACKAGE, DROPIN, DIRECTORY, SITE, LINE, SERVICE.stamp, SERVICE)

RUNS = {**SERVICE.desired, "started": "", "loaded": "", "enabled": "enabled"}


def action(service: Service = SERVICE, *, manifest: Mapping[str, Origin] | None = None, **found: Mapping[str, str]) -> str:
    there = {SERVICE.id: RUNS, PACKAGE.id: PACKAGE.desired, **found}
    plan = {"x": (*RESOURCES[:-1], service)}
    (change,) = [each for each in drift(plan, Actual(resources=there, manifest=manifest or {})).changes if each.id == service.id]
    return change.action


def test_a_process_from_before_goes_on_with_a_reload_also_after_a_run_that_failed() -> None:
    assert action() == "reload"
    assert action(manifest={SERVICE.id: "kept"}) == "reload"


@pytest.mark.parametrize(
    "found",
    [
        {SERVICE.id: {**RUNS, "program": "replaced"}},
        {SERVICE.id: {**RUNS, "started": "0123456789abcdef"}},
        {DROPIN.id: {**DROPIN.desired, "sha256": "another"}},
    ],
)
def test_it_is_restarted_where_what_it_was_started_with_has_changed(found: Mapping[str, Mapping[str, str]]) -> None:
    assert action(**found) == "restart"


def test_it_is_restarted_where_paddock_started_it_or_others_do_not_use_it() -> None:
    assert action(manifest={SERVICE.id: "put"}) == "restart"
    assert action(replace(SERVICE, joins=False)) == "restart"


def test_it_is_restarted_where_a_reload_would_leave_open_what_is_to_end() -> None:
    held = replace(SERVICE, left_open="false")
    well = {**held.desired, "loaded": "another"}
    assert action(held, manifest={SERVICE.id: "put"}, **{SERVICE.id: well, DROPIN.id: DROPIN.desired}) == "reload"
    assert (
        action(held, manifest={SERVICE.id: "put"}, **{SERVICE.id: {**well, "left open": "connections"}, DROPIN.id: DROPIN.desired})
        == "restart"
    )


class Nothing:
    """What a service asks while it lands, of a host on which it runs and nothing else is there."""

    actual = Actual(resources={SERVICE.id: RUNS, PACKAGE.id: PACKAGE.desired})
    part = ""
    resources = RESOURCES
    payload: Mapping[str, object] = {}
    trials: Mapping[str, bytes] = {}

    def origin(self, resource: object) -> Origin:
        return "put"


def test_all_that_it_reads_is_kept_before_anything_lands_and_the_process_is_noted_after_the_reload() -> None:
    steps, landing = Steps(), Nothing()
    wrong = frozenset(each.id for each in RESOURCES if landing.actual.differing(each))
    Service.before_landing(steps, wrong, landing)  # type: ignore[arg-type]
    (kept,) = [each for each in steps.calls if each.startswith("service_keep ")]
    line = f"'{LINE.path}\t{LINE.text}'"
    assert kept == f"service_keep x.service {DROPIN.path} {DIRECTORY.path} {line} {SERVICE.stamp.path}"
    steps = Steps()
    Service.land_all(steps, [Change("reload", "~", "x", SERVICE.id, SERVICE)], landing)  # type: ignore[arg-type]
    assert steps.calls[-2:] == ["put_service x.service reload 60", f"service_joined x.service {SERVICE.started}"]


def test_who_has_its_own_port_at_another_address_is_not_stopped_for_it_and_who_has_anothers_is() -> None:
    theirs = replace(SERVICE, ports=(Port(80, ("*", "0.0.0.0"), SERVICE.name),))
    other = Service("y.service", ports=(Port(81, ("*",), "y.service"),))
    landing, steps = Nothing(), Steps()
    landing.actual = Actual(resources={**landing.actual.resources, "port:80/tcp": {"addresses": "*", "unit": SERVICE.name}})
    changes = [Change("reload", "~", "x", theirs.id, theirs), Change("put", "+", "x", other.id, other)]
    Service.land_all(steps, changes, landing)  # type: ignore[arg-type]
    assert not [each for each in steps.calls if each.startswith("service_vacate")]
    landing.actual = Actual(resources={**landing.actual.resources, "port:81/tcp": {"addresses": "*", "unit": SERVICE.name}})
    Service.land_all(steps, changes, landing)  # type: ignore[arg-type]
    assert [each for each in steps.calls if each.startswith("service_vacate")] == ["service_vacate x.service"]


def test_nothing_is_kept_for_a_service_that_nothing_is_done_to() -> None:
    steps = Steps()
    landing = Nothing()
    landing.actual = Actual(resources={each.id: each.desired for each in RESOURCES})
    Service.before_landing(steps, frozenset({SITE.id}), landing)  # type: ignore[arg-type]
    assert not [each for each in steps.calls if each.startswith("service_keep ")]
