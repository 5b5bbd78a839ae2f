"""A service of which nothing is declared but that it runs: it is started where it does not, and otherwise left to run as it is."""

from resources import Service, expand
from resources.probe import Actual
from resources.steps import Steps

DOCKER = Service("docker.service")
WELL = {"active": "active", "enabled": "enabled", "daemon-reload": "no", "restarts": "none", "started": "", "program": "replaced"}


def actual(manifest: dict[str, str] | None = None, **found: str) -> Actual:
    return Actual({DOCKER.id: {**WELL, **found}}, manifest=manifest or {})  # type: ignore[arg-type]


def test_it_brings_no_file() -> None:
    assert [each.id for _, each in expand([("docker", DOCKER)])] == [DOCKER.id]


def test_it_is_as_declared_where_it_runs_whatever_it_was_started_with() -> None:
    assert actual().differing(DOCKER) == {} and DOCKER.action(actual(), frozenset()) is None


def test_it_is_started_where_it_does_not_run() -> None:
    stopped = actual(active="inactive")
    assert DOCKER.action(stopped, frozenset({DOCKER.id})) == "put" and DOCKER.noted_as(stopped) == "put"


def test_where_it_ran_before_it_is_noted_as_somebody_elses_and_goes_on_when_the_role_leaves() -> None:
    assert DOCKER.noted_as(actual()) == "kept"
    steps = Steps()
    Service.leave(steps, DOCKER.unit, "kept")
    Service.after_leaving(steps, {DOCKER.id: "kept"})
    assert [call for call in steps.calls if "service_again" in call] == ["service_again docker.service untouched"]


def test_one_whose_starts_were_noted_runs_with_its_old_files_again() -> None:
    steps = Steps()
    Service.after_leaving(steps, {"service:caddy.service": "kept", "file:/etc/systemd/system/caddy.service.d/50-paddock.conf": "put"})
    assert "service_again caddy.service changed" in steps.calls
