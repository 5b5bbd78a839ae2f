"""What shows that the image server answers, and whom."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from roles.localai.settings import LocalaiSettings
from roles.role import address_of, loopback_of


def check_it_is_ready(host: TestinfraHost, settings: LocalaiSettings) -> None:
    said = host.run("curl --silent --fail --max-time 10 http://%s/readyz", _at(settings))
    assert said.rc == 0, f"the image server does not answer at {settings.listen}: `paddock logs` says why"


def check_nobody_without_the_key_gets_an_answer(host: TestinfraHost, settings: LocalaiSettings) -> None:
    ask = "curl --silent --output /dev/null --max-time 10 --write-out '%%{http_code}' http://%s/v1/models"
    status = host.check_output(ask, _at(settings))
    assert status == "401", f"the image server answers {status} to whoever has no key"


def _at(settings: LocalaiSettings) -> str:
    return loopback_of(settings.listen) if address_of(settings.listen) in ("0.0.0.0", "::") else settings.listen
