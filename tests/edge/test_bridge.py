"""The bridge on a person's machine: the openai package gets through it as that person, and nobody else of the machine or the web does."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from lab import hosts as lab_hosts
from lab.hosts import ssh_command
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=3)

INVENTORY = """
fleet: span
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {models: [story], api_key: true, preset: {ctx-size: 65536, parallel: 1}}
      caddy: {sites: {ai.home.example: {upstream: ai}}}
      client: {accounts: {cleo: {client: box, bridge: '127.0.0.1:8399'}}}
  desk:
    address: 192.0.2.11
    roles:
      base: {time: elsewhere}
      client: {accounts: {anna: {client: laptop, bridge: '127.0.0.1:8399'}}}
models: {story: {}}
clients: {laptop: {}, box: {}}
"""

HOSTS = "127.0.0.1:8399"
UNIT = "paddock-bridge-anna.service"
ENVIRONMENT = "/etc/paddock/clients/anna/bridge.env"
TELL = [{"role": "user", "content": "Tell me a story."}]

AS_ANNA = f"""
. {ENVIRONMENT}
printf 'header = "Authorization: Bearer %s"\\n' "$OPENAI_API_KEY" | curl -sS -K - --max-time 60 -i"""
"""A request with anna's key, which is on no command line."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("span")
    with lab_fleet("span", tmp_path_factory.mktemp("span"), INVENTORY, ready=True) as fleet:
        for host, account in (("desk", "anna"), ("desk", "bob"), ("ai", "cleo")):
            fleet.on(host, f"id -u {account} || useradd --create-home {account}")
        fleet.up()
        yield fleet


@contextmanager
def through_ssh(fleet: LabFleet) -> Iterator[int]:
    """A port of this machine that leads to the bridge's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ssh, *options, destination = ssh_command(fleet.host("desk"))
    command = [ssh, *options, "-oExitOnForwardFailure=yes", "-N", "-L", f"127.0.0.1:{port}:{HOSTS}", destination]
    forward = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        forward.terminate()
        forward.wait()


@pytest.fixture(scope="module")
def environment(fleet: LabFleet) -> dict[str, str]:
    """What anna, and she, can read of her bridge."""
    lines = fleet.on("desk", "runuser -u anna -- cat /home/anna/.config/paddock/bridge.env").split()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def port(fleet: LabFleet) -> Iterator[int]:
    with through_ssh(fleet) as port:
        yield port


@pytest.fixture(scope="module")
def client(port: int, environment: dict[str, str]) -> openai.OpenAI:
    """The openai package as on anna's machine; what is this machine's is only the port that it begins at."""
    assert environment["OPENAI_BASE_URL"] == f"http://{HOSTS}/v1"
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=environment["OPENAI_API_KEY"],
        default_headers={"Host": HOSTS},
        max_retries=0,
        timeout=300,
    )


def is_generating(fleet: LabFleet) -> bool:
    """Whether llama-server says that a model is at work."""
    key = '. /etc/paddock/llama-server/api-key.env; printf \'header = "Authorization: Bearer %s"\' "$LLAMA_API_KEY"'
    slots: list[dict[str, Any]] = json.loads(fleet.on("ai", f"{key} | curl -sS -K - 'http://127.0.0.1:8080/slots?model=story'"))
    return any(each["is_processing"] for each in slots)


def answer(fleet: LabFleet, *options: str, who: str = "anna", host: str = "desk", ask: str = AS_ANNA) -> tuple[int, str, str]:
    """Status, headers in lower case, and body of what an account is answered."""
    script = f"{ask} {shlex.join(options)} http://{HOSTS}/v1/models"
    head, _, body = fleet.on(host, f"runuser -u {who} -- sh -c {shlex.quote(script)}").replace("\r", "").partition("\n\n")
    return int(head.split()[1]), head.lower(), body


def test_the_openai_package_gets_its_first_token_before_the_last_is_made(fleet: LabFleet, client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="story", messages=TELL, stream=True, max_tokens=60000, extra_body={"ignore_eos": True}
    ) as stream:
        first = next(each.choices[0].delta.content for each in stream if each.choices and each.choices[0].delta.content)
        assert first
        assert is_generating(fleet)
    for _ in range(150):
        if not is_generating(fleet):
            return
        time.sleep(0.2)
    raise AssertionError("it goes on writing for a caller who has left")


def test_a_streamed_completion_comes_whole_and_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="story", messages=TELL, stream=True, max_tokens=24, extra_body={"ignore_eos": True})
    choices = [each.choices[0] for each in stream if each.choices]
    assert len([each for each in choices if each.delta.content]) > 4
    assert choices[-1].finish_reason == "length"


def test_a_client_that_is_no_administrator_hears_of_what_is_closed_as_of_a_permission(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="Only administrators may ask for this") as told:
        client.get("/slots", cast_to=object)
    assert told.value.type == "permission_error"


def test_another_account_of_the_machine_gets_nothing(fleet: LabFleet) -> None:
    status, _, body = answer(fleet, who="bob", ask="curl -sS -i")
    assert status == 401
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
    for guess in ("sk-guessed", "", "*", "{env.OPENAI_API_KEY}", "{http.request.header.Authorization}"):
        asked = ("curl", "-sS", "-i", "-H", f"Authorization: Bearer {guess}")
        assert answer(fleet, who="bob", ask=shlex.join(asked))[0] == 401, guess
    own = fleet.on("desk", f"systemctl show -P MainPID {UNIT}").strip()
    files = "/etc/paddock/clients/anna/bridge.env /etc/paddock/clients/anna/bridge.key /etc/paddock/clients/anna/certs/client-key.pem"
    for path in (*files.split(), f"/proc/{own}/environ"):
        assert "no" in fleet.on("desk", f"runuser -u bob -- head -c 1 {path} >/dev/null 2>&1 || echo no"), path


def test_the_package_hears_of_a_wrong_key_as_of_any_servers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError, match="anna's key"):
        client.with_options(api_key="sk-guessed").models.list()


PAGES = (
    ("Origin: https://evil.example",),
    ("Origin: http://localhost:3000",),
    ("Origin: null",),
    ("Host: evil.example:8399",),
    ("Host: evil.example:8399", "Origin: http://evil.example:8399"),
)
"""What a browser sends for pages of elsewhere, the last two for one whose name has been pointed at loopback."""


@pytest.mark.parametrize("headers", PAGES)
def test_a_page_of_another_origin_gets_nothing_even_if_it_knew_the_key(fleet: LabFleet, headers: tuple[str, ...]) -> None:
    status, head, body = answer(fleet, *(option for each in headers for option in ("-H", each)))
    assert status == 403
    assert "access-control-" not in head
    assert set(json.loads(body)) == {"error"}


def test_a_browser_that_asks_beforehand_is_told_no(fleet: LabFleet) -> None:
    asked = ("Origin: https://evil.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    status, head, _ = answer(fleet, "-X", "OPTIONS", *(option for each in asked for option in ("-H", each)), ask="curl -sS -i")
    assert status == 403
    assert "access-control-" not in head


def test_no_answer_permits_anything_to_web_pages(fleet: LabFleet) -> None:
    status, head, _ = answer(fleet, "-H", f"Origin: http://{HOSTS}")
    assert status == 200
    assert "access-control-" not in head


def test_the_keys_are_in_no_command_line_and_in_nothing_that_caddy_leaves_behind(fleet: LabFleet, environment: dict[str, str]) -> None:
    for key in (environment["OPENAI_API_KEY"], fleet.paddock("secrets", "show", "--lab", "api-key.ai").stdout.strip()):
        assert len(key) > 40
        assert key not in fleet.on("desk", "ps -eo args; journalctl -q -o cat --no-pager")
        found = fleet.on("desk", f"grep -rlF {key} /home /root /var /tmp 2>/dev/null || true")
        assert found == ""


def test_the_unit_is_sandboxed_and_answers_on_loopback_alone(fleet: LabFleet) -> None:
    assert fleet.on("desk", f"systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1") == ""
    fleet.on("desk", f"systemd-analyze security --no-pager --threshold=20 {UNIT}")
    assert fleet.on("desk", f"stat -c %U /proc/$(systemctl show -P MainPID {UNIT})").strip() == "anna"
    assert fleet.on("desk", "ss -Hltnp | grep caddy | awk '{print $4}'").split() == [HOSTS]


def test_the_packages_own_service_stays_off_port_80_until_somebody_writes_a_caddyfile(fleet: LabFleet) -> None:
    fleet.on("desk", "systemctl start caddy")
    assert fleet.on("desk", "ss -Hltn 'sport = :80'") == ""
    fleet.on("desk", "cp -p /etc/caddy/Caddyfile /root; echo 'http://127.0.0.1:8081 {\n respond own\n}' >/etc/caddy/Caddyfile")
    fleet.on("desk", "systemctl start caddy")
    assert fleet.on("desk", "curl -sS http://127.0.0.1:8081") == "own"
    fleet.on("desk", "systemctl stop caddy; mv /root/Caddyfile /etc/caddy/")


def test_beside_a_reverse_proxy_both_answer(fleet: LabFleet) -> None:
    assert fleet.on("ai", "systemctl is-active caddy paddock-bridge-cleo").split() == ["active", "active"]
    status, _, _ = answer(fleet, who="cleo", host="ai", ask=AS_ANNA.replace("/anna/", "/cleo/"))
    assert status == 200


def test_a_site_that_is_down_is_told_in_words(fleet: LabFleet, client: openai.OpenAI) -> None:
    fleet.on("ai", "systemctl stop caddy")
    try:
        with pytest.raises(openai.InternalServerError, match=r"ai\.home\.example does not answer, or does not let laptop in") as told:
            client.models.list()
        assert told.value.status_code == 502
    finally:
        fleet.on("ai", "systemctl start caddy")


def test_a_second_run_finds_nothing_to_do(fleet: LabFleet) -> None:
    assert "0 changed" in fleet.up().stdout


def test_a_new_certificate_is_taken_up(fleet: LabFleet, client: openai.OpenAI) -> None:
    before = fleet.on("desk", f"systemctl show -P InvocationID {UNIT}")
    for path in (fleet.state / "certs" / "client").glob("laptop.*"):
        path.unlink()
    fleet.up()
    assert fleet.on("desk", f"systemctl show -P InvocationID {UNIT}") != before
    assert [each.id for each in client.models.list()] == ["story"]


def test_taken_from_the_account_nothing_is_left(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace(", bridge: '127.0.0.1:8399'", ""))
    fleet.up()
    assert fleet.on("desk", f"systemctl list-units --all --plain --no-legend {UNIT}") == ""
    assert fleet.on("desk", "find /etc/paddock /etc/systemd /home/anna -name '*bridge*'") == ""
    assert fleet.on("desk", "ls -d /home/anna/.config /etc/systemd/system/caddy.service.d /usr/bin/caddy 2>/dev/null || true") == ""


def test_of_who_is_thrown_out_key_and_bridge_are_gone_when_it_is_said_to_be_in_force(fleet: LabFleet) -> None:
    fleet.write(INVENTORY)
    fleet.up()
    assert fleet.on("desk", f"systemctl is-active {UNIT}").strip() == "active"
    done = fleet.paddock("certs", "revoke", "laptop", "--lab")
    assert done.returncode == 0 and "in force on ai, desk" in done.stdout, done.stdout + done.stderr
    assert fleet.on("desk", f"systemctl list-units --all --plain --no-legend {UNIT}") == ""
    assert (
        fleet.on("desk", "find /etc/paddock/clients /etc/systemd /home/anna -name '*anna*' -mindepth 1; find / -xdev -name client-key.pem")
        == ""
    )
    assert fleet.on("ai", "systemctl is-active paddock-bridge-cleo.service").strip() == "active"
    assert "0 changed" in fleet.up().stdout
