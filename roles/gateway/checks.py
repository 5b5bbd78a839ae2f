"""What shows that the gateway answers, and whom."""

from __future__ import annotations

import time

from testinfra.host import Host as TestinfraHost

from roles.gateway.plan import ACCOUNT, CONFIGURATION, DATABASE, MASTER_KEY_FILE, PEPPER_FILE, STATE
from roles.gateway.settings import GatewaySettings, OnPostgres, called_at
from roles.role import interface_of, port_of
from roles.users import UNIT

LOOK_S = 15
"""What a look at a server may take."""

MOST_EXPOSED = 15
"""Of what `systemd-analyze security` counts, in tenths."""


def check_it_is_ready(host: TestinfraHost, settings: GatewaySettings) -> None:
    """A server that was away while this one ran is asked again only after its rest."""
    until = time.monotonic() + settings.health.cooldown_s + 2 * settings.health.every_s + LOOK_S
    while (answered := _asked(host, settings, "/readyz"))[1] != "200" and time.monotonic() < until:
        time.sleep(1)
    assert answered[1] == "200", f"{answered[1]} {answered[0]}"


def check_nobody_gets_an_answer_without_a_key(host: TestinfraHost, settings: GatewaySettings) -> None:
    for key in ("", 'header = "Authorization: Bearer sk-of-nobody"'):
        answer, status = _asked(host, settings, "/v1/models", key)
        assert status == "401", f"{status} {answer}"


def check_the_master_key_lists_the_models(host: TestinfraHost, settings: GatewaySettings) -> None:
    """The key is read on the host, and stands in no command line there."""
    if settings.master_key:
        answer, status = _asked(host, settings, "/model/info", f'header = "Authorization: Bearer $(cat {MASTER_KEY_FILE})"')
        assert status == "200", f"{status} {answer}"


def check_only_the_gateway_reads_its_secrets(host: TestinfraHost, settings: GatewaySettings) -> None:
    for path in (CONFIGURATION, PEPPER_FILE, *([MASTER_KEY_FILE] if settings.master_key else [])):
        assert host.run("runuser -u nobody -- cat %s", path).failed, f"any account reads {path}"


def check_its_data_are_its_own(host: TestinfraHost, settings: GatewaySettings) -> None:
    assert host.check_output("stat -c '%%U %%a' %s", STATE) == f"{ACCOUNT} 700"
    if not isinstance(settings.database, OnPostgres):
        assert host.check_output("stat -c '%%U %%a' %s", DATABASE) == f"{ACCOUNT} 600"


def check_a_break_in_finds_little(host: TestinfraHost) -> None:
    said = host.run("systemd-analyze security --no-pager --threshold=%s %s", str(MOST_EXPOSED), UNIT)
    assert said.rc == 0, said.stdout.strip().rpartition("\n")[2]


def _asked(host: TestinfraHost, settings: GatewaySettings, path: str, header: str = "") -> tuple[str, str]:
    """The answer, and its status. `header` is a line for curl's configuration, in which the host's shell may fill something in."""
    at = settings.listen[0]
    where = f"$(ip -4 -o addr show dev {interface_of(at)} scope global | awk '{{ print $4; exit }}' | cut -d/ -f1):{port_of(at)}"
    url = f"http://{where if interface_of(at) else called_at(at)}{path}"
    config = header.replace('"', '\\"')
    said = host.run(
        f"printf '%s\\n' \"{config}\" | curl --silent --max-time 60 --write-out '\\n%{{http_code}}' --config - \"{url}\""
    ).stdout
    text, _, status = said.strip().rpartition("\n")
    return text, status
