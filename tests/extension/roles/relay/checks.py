"""Whom the relay answers, and what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testinfra.host import Host as TestinfraHost

from roles.relay.plan import KEY_FILE
from roles.relay.settings import RelaySettings

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host


def check_answers_those_that_show_its_key(host: TestinfraHost, settings: RelaySettings, this: Host, fleet: Fleet) -> None:
    answering, upstream = this.name, settings.upstream
    while upstream:
        behind = fleet.role(upstream, "relay", RelaySettings)
        answering, upstream = upstream, behind.upstream if behind else None
    text, status = _asked(host, settings, KEY_FILE)
    assert (text, status) == (answering, "200"), f"{status} {text}"


def check_refuses_everybody_else(host: TestinfraHost, settings: RelaySettings) -> None:
    text, status = _asked(host, settings, "/dev/null")
    assert status == "401", f"{status} {text}"


def _asked(host: TestinfraHost, settings: RelaySettings, key_file: str) -> tuple[str, str]:
    """The answer, and its status. The key is read on the host, and stands in no command line there."""
    key = f"""printf 'header = "Authorization: Bearer %s"' "$(cat {key_file})" |"""
    said = host.run(f"{key} curl --silent --max-time 20 --write-out '\n%{{http_code}}' --config - http://{settings.listen}/").stdout
    text, _, status = said.strip().rpartition("\n")
    return text, status
