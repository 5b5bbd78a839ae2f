"""What shows that Langfuse answers, and that nobody signs up."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from resources import lines_of
from roles.langfuse.settings import LangfuseSettings
from roles.role import loopback_of


def check_its_page_answers(host: TestinfraHost, settings: LangfuseSettings) -> None:
    at = loopback_of(settings.listen) if settings.listen.startswith(("0.0.0.0:", "[::]:")) else settings.listen
    said = host.run("curl --silent --fail --max-time 10 http://%s/api/public/health", at)
    assert said.rc == 0, f"Langfuse does not answer at {settings.listen}: `paddock logs` says why"


def check_nothing_but_its_page_is_published(host: TestinfraHost) -> None:
    each = '{{.Label "com.docker.compose.service"}} {{.Ports}}'
    shown = f"docker ps --filter label=com.docker.compose.project=paddock-langfuse --format '{each}'"
    published = [line.split()[0] for line in lines_of(host.check_output(shown)) if "->" in line]
    assert set(published) <= {"web"}, f"{', '.join(published)} are published, and only web is to be"
