"""Servers that stand in for each other take turns, and one that leaves ends what it answers."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from cli.views.changes import lines
from control.deployment.work import Work
from resources import File, Service, scripts
from resources.base import Action, Origin
from resources.drift import Change, Drift
from resources.probe import Actual
from resources.steps import Steps
from tests.unit.on_unix_sockets import figures

PRESET = File("/etc/x/presets.ini", "[one]\n")
SERVICE = Service("x.service", restarts=(PRESET,), drains=True, answers="true")


class Host:
    """What services ask while they land: of a host on which nothing else is declared."""

    actual = Actual(resources={})
    part = ""

    def origin(self, resource: object) -> Origin:
        return "put"


def landed(*services: Service, action: Action = "restart") -> list[str]:
    """The steps, each by its function and the service's name."""
    steps = Steps()
    Service.land_all(steps, [Change(action, "~", "x", each.id, each) for each in services], Host())  # type: ignore[arg-type]
    called = (each.split() for each in steps.calls)
    return [" ".join(each[:2]) for each in called if each[0] in ("put_service", "service_answers", "service_noticed")]


def test_of_those_that_are_alike_one_answers_before_the_next_is_restarted_and_others_read_their_models_side_by_side() -> None:
    one, other, lone = (replace(SERVICE, name=f"{each}.service") for each in ("one", "other", "lone"))
    assert landed(replace(one, alike="chat"), replace(other, alike="chat"), replace(lone, alike="code")) == [
        *(f"{step} one.service" for step in TURN),
        "service_noticed",
        *(f"{step} other.service" for step in TURN),
        "put_service lone.service",
        "service_answers lone.service",
    ]
    begun = landed(replace(one, alike="chat"), replace(other, alike="chat"), action="put")
    assert begun[-2:] == ["service_answers one.service", "service_answers other.service"], "what does not run yet is waited for at the end"


TURN = ("put_service", "service_answers")


@pytest.mark.parametrize(
    ("action", "said"),
    [("restart", "restarts: all answers break off"), ("put", "starts"), ("reload", "reloads")],
)
def test_a_plan_says_what_a_restart_breaks_off(action: Action, said: str) -> None:
    change = Change(action, "~", "x", SERVICE.id, replace(SERVICE, cuts="all answers break off"))
    work = Work({}, Actual(), Drift((change,), (), {}, {}, True))
    assert list(lines(work)) == [f"  ~ service:x.service  ({said})"]


def sh(script: str) -> int:
    return subprocess.run(["sh", "-c", f"set -eu\n{scripts()}\n{script}"], capture_output=True, timeout=20).returncode


def test_a_server_that_leaves_is_waited_for_while_somebody_is_answered_and_not_for_connections_that_are_kept() -> None:
    for running in (0, 1):
        with figures(running, "UP") as path:
            asked = f"curl() {{ command curl -s --unix-socket {path} 'http://localhost/;csv'; }}"
            assert (sh(f"{asked}; service_answering paddock-proxy-x.socket") == 0) is bool(running)
    assert sh("service_answering paddock-proxy-nothing.socket") != 0
