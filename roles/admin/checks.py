"""What shows that the endpoint answers, and whom."""

from __future__ import annotations

from ipaddress import ip_address

from testinfra.host import Host as TestinfraHost

from inventory.fleet import Fleet, Host
from roles.admin.plan import KEY_FILE, PRESETS
from roles.admin.settings import SOCKET, AdminSettings
from roles.outside import Outside, Refused
from roles.role import address_of, port_of

HERE = ("127.", "::1", "localhost")
"""Addresses of a host that Paddock itself runs on: nobody there is outside."""


def check_shows_the_presets_to_who_knows_the_key(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    text, status = _asked(host, KEY_FILE)
    if any(server.kind == "router" for server in fleet.servers(this.name)):
        assert (text.strip(), status) == (host.check_output("cat %s", PRESETS).strip(), "200")
    else:
        assert status == "404", f"{status} {text}"


def check_nobody_else_gets_an_answer(host: TestinfraHost) -> None:
    for key in ("/dev/null", "/etc/hostname"):
        text, status = _asked(host, key)
        assert status == "401", f"{status} {text}"


def check_is_out_of_reach_from_outside(settings: AdminSettings, this: Host, outside: Outside) -> None:
    if not ip_address(address_of(settings.listen)).is_loopback or this.address.startswith(HERE):
        return
    try:
        answer = outside.ask(f"http://{this.name}:{port_of(settings.listen)}/", at=this.address)
    except (OSError, Refused):
        return
    raise AssertionError(f"it answers {answer.status} from outside, although it is to listen on {settings.listen}")


def _asked(host: TestinfraHost, key_file: str) -> tuple[str, str]:
    """The answer, and its status. The key is read on the host, and stands in no command line there."""
    asked = f"--unix-socket {SOCKET} http://localhost/paddock/admin/preset"
    key = f"""printf 'header = "Authorization: Bearer %s"' "$(cat {key_file})" |"""
    said = host.run(f"{key} curl --silent --max-time 60 --write-out '\n%{{http_code}}' --config - {asked}").stdout
    text, _, status = said.strip().rpartition("\n")
    return text, status
