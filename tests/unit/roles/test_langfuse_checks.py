"""What verify asks of Langfuse, by a real shell and curl, of a server that answers as Langfuse's own source does."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import testinfra

from roles.langfuse import checks
from roles.langfuse.settings import KEY, LangfuseSettings, secret_name
from roles.tracing import public_key
from tests.unit.roles.test_langfuse_plan import KEYS, SAID, files, planned

SECRET = KEYS[secret_name(KEY, "prod")]
PAIR = f"{public_key(SECRET)}:{SECRET}"
HOST = testinfra.get_host("local://")


class Langfuse:
    """`pair` is the keys of the project `project`. With `opened` people sign up, as the first user has. A `newer` one looks at the form
    first."""

    def __init__(
        self, pair: str = PAIR, project: str = "fleet", *, opened: bool = False, newer: bool = False, careless: bool = False
    ) -> None:
        self.pair, self.project, self.opened, self.newer, self.careless = pair, project, opened, newer, careless
        self.users = ["ann@home.example"]

    def get(self, path: str, authorization: str) -> tuple[int, object]:
        if path == "/api/public/health":
            return 200, {"status": "OK"}
        assert path == "/api/public/projects"
        if not self.careless and authorization != f"Basic {base64.b64encode(self.pair.encode()).decode()}":
            return 401, {"message": "Invalid credentials. Confirm that you've configured the correct host."}
        return 200, {"data": [{"id": self.project, "name": self.project, "metadata": {}}]}

    def post(self, path: str, form: dict[str, str]) -> tuple[int, object]:
        assert path == "/api/auth/signup"
        password, valid = form.get("password", ""), set(form) == {"name", "email", "password"}
        valid = valid and len(password) >= 8 and not password.isalnum() and any(map(str.isdigit, password)) and form["name"].isalnum()
        if self.newer and not valid:
            return 422, {"message": {"name": "ZodError"}}
        if not self.opened:
            return 422, {"message": "Sign up is disabled."}
        if not valid:
            return 422, {"message": {"name": "ZodError"}}
        if form["email"].lower() in self.users:
            return 422, {"message": "User with email already exists. Please sign in."}
        self.users.append(form["email"])
        return 200, {"message": "User created"}


@contextmanager
def listening(langfuse: Langfuse) -> Iterator[LangfuseSettings]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say(*langfuse.get(self.path, self.headers.get("Authorization", "")))

        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            self.say(*langfuse.post(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def say(self, status: int, said: object) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield LangfuseSettings.model_validate({**SAID, "listen": f"0.0.0.0:{server.server_port}"})
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The env file as it is planned, where this machine has it."""
    (tmp_path / "web.env").write_bytes(files(planned())["web.env"].data)
    monkeypatch.setattr(checks, "WEB_VARIABLES", str(tmp_path / "web.env"))


ASKED: list[Callable[..., None]] = [
    checks.check_its_page_answers,
    checks.check_its_project_takes_the_key_of_those_who_send_traces,
    checks.check_nobody_gets_an_answer_without_a_key,
    checks.check_nobody_signs_up,
]


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_a_langfuse_as_it_is_planned_passes(newer: bool) -> None:
    with listening(Langfuse(newer=newer)) as settings:
        for check in ASKED:
            check(HOST, settings)


@pytest.mark.parametrize(
    ("langfuse", "check", "words"),
    [
        (Langfuse("pk-lf-1:sk-of-another"), ASKED[1], "refuses the key langfuse-key: 401 .*Invalid credentials"),
        (Langfuse(project="another"), ASKED[1], "the key langfuse-key is of another, not of fleet"),
        (Langfuse(careless=True), ASKED[2], "200 "),
        (Langfuse(opened=True), ASKED[3], "sign-up is not closed: .*User with email already exists"),
        (Langfuse(opened=True, newer=True), ASKED[3], "sign-up is not closed: .*User with email already exists"),
    ],
)
def test_each_fault_is_told_and_no_account_is_made(langfuse: Langfuse, check: Callable[..., None], words: str) -> None:
    with listening(langfuse) as settings, pytest.raises(AssertionError, match=words) as told:
        check(HOST, settings)
    assert langfuse.users == ["ann@home.example"] and SECRET not in str(told.value)


def test_a_langfuse_that_is_away_passes_nothing() -> None:
    with listening(Langfuse()) as settings:
        pass
    for check in ASKED:
        with pytest.raises(AssertionError):
            check(HOST, settings)
