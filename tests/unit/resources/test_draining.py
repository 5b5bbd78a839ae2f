"""Before its restart a service ends what it answers, and servers that stand in for each other take turns."""

from __future__ import annotations

import http.server
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cli.views.changes import lines
from control.deployment.work import Work
from resources import File, Service, scripts
from resources.base import Action, Origin
from resources.drift import Change, Drift
from resources.probe import Actual
from resources.steps import Steps

PRESET = File("/etc/x/presets.ini", "[one]\n")
DRAIN = ("/run/x/http.sock", "/run/proxy/figures.sock", "30")
SERVICE = Service("x.service", restarts=(PRESET,), drain=DRAIN, answers="true")

CSV = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight
answers,main,0,0,{running},2,,9,1,2,,0,,0,0,0,0,{status},1
answers,nobody,0,0,1,1,,9,1,2,,0,,0,0,0,0,no check,1
answers,BACKEND,0,0,2,2,200,9,1,2,0,0,,0,0,0,0,UP,1
"""


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
    return [" ".join(each[:2]) for each in called if each[0] in ("service_drain", "put_service", "service_answers", "service_noticed")]


def test_a_service_is_drained_before_it_is_restarted_and_not_for_a_reload() -> None:
    assert landed(SERVICE) == ["service_drain x.service", "put_service x.service", "service_answers x.service"]
    assert landed(SERVICE, action="reload") == ["put_service x.service", "service_answers x.service"]
    steps = Steps()
    Service.land_all(steps, [Change("restart", "~", "x", SERVICE.id, SERVICE)], Host())  # type: ignore[arg-type]
    assert f"service_drain x.service {' '.join(DRAIN)}" in steps.calls


def test_of_those_that_are_alike_one_answers_before_the_next_is_drained_and_others_read_their_models_side_by_side() -> None:
    one, other, lone = (replace(SERVICE, name=f"{each}.service") for each in ("one", "other", "lone"))
    assert landed(replace(one, alike="chat"), replace(other, alike="chat"), replace(lone, alike="code")) == [
        *(f"{step} one.service" for step in TURN),
        "service_noticed",
        *(f"{step} other.service" for step in TURN),
        "service_drain lone.service",
        "put_service lone.service",
        "service_answers lone.service",
    ]
    begun = landed(replace(one, alike="chat"), replace(other, alike="chat"), action="put")
    assert begun[-2:] == ["service_answers one.service", "service_answers other.service"], "what does not run yet is waited for at the end"


TURN = ("service_drain", "put_service", "service_answers")


@pytest.mark.parametrize(
    ("action", "said"),
    [("restart", "restarts: all answers break off"), ("put", "starts"), ("reload", "reloads")],
)
def test_a_plan_says_what_a_restart_breaks_off(action: Action, said: str) -> None:
    change = Change(action, "~", "x", SERVICE.id, replace(SERVICE, cuts="all answers break off"))
    work = Work({}, Actual(), Drift((change,), (), {}, {}, True))
    assert list(lines(work)) == [f"  ~ service:x.service  ({said})"]


class OnUnixSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def figures(running: int, status: str) -> Iterator[str]:
    """The path of a socket where HAProxy would say how many are being answered."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CSV.format(running=running, status=status).encode())

        def log_request(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "a socket"

    with TemporaryDirectory() as directory, OnUnixSocket(path := f"{directory}/figures.sock", Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield path
        finally:
            server.shutdown()


def sh(script: str) -> int:
    return subprocess.run(["sh", "-c", f"set -eu\n{scripts()}\n{script}"], capture_output=True, timeout=20).returncode


@pytest.mark.parametrize(
    ("running", "status", "rests"),
    [(0, "DOWN", True), (0, "DOWN 1/2", True), (1, "DOWN", False), (0, "UP", False), (0, "UP 1/3", False)],
)
def test_a_server_is_at_rest_once_nobody_is_sent_to_it_and_nobody_is_being_answered(running: int, status: str, rests: bool) -> None:
    with figures(running, status) as path:
        assert (sh(f"service_at_rest {path}") == 0) is rests


def test_a_server_that_leaves_is_waited_for_while_somebody_is_answered_and_not_for_connections_that_are_kept() -> None:
    for running in (0, 1):
        with figures(running, "UP") as path:
            asked = f"curl() {{ command curl -s --unix-socket {path} 'http://localhost/;csv'; }}"
            assert (sh(f"{asked}; service_answering paddock-proxy-x.socket") == 0) is bool(running)
    assert sh("service_answering paddock-proxy-nothing.socket") != 0


def test_a_server_before_which_nothing_runs_is_at_rest() -> None:
    assert sh("service_at_rest /nowhere/figures.sock") == 0


def test_a_run_that_fails_lets_callers_in_again(tmp_path: Path) -> None:
    socket = tmp_path / "http.sock"
    with socketserver.UnixStreamServer(str(socket), socketserver.BaseRequestHandler):
        socket.rename(f"{socket}.drained")
        assert sh(f"drained={socket}; service_undrained") == 0
        assert socket.is_socket()
