"""What shows that Langfuse answers, that it takes the key that senders of traces are told, and that nobody signs up."""

from __future__ import annotations

import json
import secrets

from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from resources import lines_of
from roles.langfuse.plan import WEB_VARIABLES
from roles.langfuse.settings import LangfuseSettings

PROJECTS = "/api/public/projects"
"""Names the project that a key belongs to."""

SIGN_UP = "/api/auth/signup"
CLOSED = "Sign up is disabled."
"""Its answer then: signupApiHandler.ts in web/src/features/auth-credentials/server of github.com/langfuse/langfuse."""


def check_its_page_answers(host: TestinfraHost, settings: LangfuseSettings) -> None:
    said = host.run("curl --silent --fail --max-time 10 http://%s/api/public/health", settings.front())
    assert said.rc == 0, f"Langfuse does not answer at {settings.listen}: `paddock logs` says why"


def check_its_project_takes_the_key_of_those_who_send_traces(host: TestinfraHost, settings: LangfuseSettings) -> None:
    """The keys are read on the host, and stand in no command line there."""
    pair = ":".join(f"$(sed -n 's/^LANGFUSE_INIT_PROJECT_{each}_KEY=//p' {WEB_VARIABLES})" for each in ("PUBLIC", "SECRET"))
    answer, status = _asked(host, settings, PROJECTS, f'user = "{pair}"')
    assert status == "200", f"Langfuse refuses the key langfuse-key: {status} {answer[:200]}"
    found = [each["id"] for each in from_json(answer)["data"]]
    assert found == [settings.project], f"the key langfuse-key is of {', '.join(found) or 'no project'}, not of {settings.project}"


def check_nobody_gets_an_answer_without_a_key(host: TestinfraHost, settings: LangfuseSettings) -> None:
    for key in ("", 'user = "pk-lf-of-nobody:sk-of-nobody"'):
        answer, status = _asked(host, settings, PROJECTS, key)
        assert status == "401", f"{status} {answer[:200]}"


def check_nobody_signs_up(host: TestinfraHost, settings: LangfuseSettings) -> None:
    """Asked for the address of the first user, of whom no second account is made even where sign-up is open. Newer versions look at the
    form first, so it is a valid one."""
    form = json.dumps({"name": "paddock", "email": settings.email, "password": f"{secrets.token_hex(16)}-no-one"})
    header = "Content-Type: application/json"
    said = host.run("curl --silent --max-time 60 --header %s --data-raw %s http://%s%s", header, form, settings.front(), SIGN_UP)
    assert CLOSED in said.stdout, f"sign-up is not closed: {said.stdout[:200] or said.stderr[:200]}"


def check_nothing_but_its_page_is_published(host: TestinfraHost) -> None:
    each = '{{.Label "com.docker.compose.service"}} {{.Ports}}'
    shown = f"docker ps --filter label=com.docker.compose.project=paddock-langfuse --format '{each}'"
    published = [line.split()[0] for line in lines_of(host.check_output(shown)) if "->" in line]
    assert set(published) <= {"web"}, f"{', '.join(published)} are published, and only web is to be"


def _asked(host: TestinfraHost, settings: LangfuseSettings, path: str, header: str) -> tuple[str, str]:
    """The answer, and its status. `header` is a line for curl's configuration, in which the host's shell may fill something in."""
    url = f"http://{settings.front()}{path}"
    script = f"curl --silent --max-time 60 --write-out '\\n%{{http_code}}' --config - {url} <<END\n{header}\nEND"
    text, _, status = host.run(script).stdout.strip().rpartition("\n")
    return text, status
