"""The role `alertmanager`: ten alerts are brought about on lab hosts, and reach a webhook and a mailbox of the tests. `box` watches itself,
`far`, which has a second Alertmanager, and `away`.

The hosts are deployed as real machines are, since in a lab nobody is told. The tests are one story, in the order of the file.
"""

from __future__ import annotations

import email
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

MACHINES = """
fleet: alerts
domain: home.example
hosts:
  box:
    {box}
    roles:
      base: {{time: elsewhere}}
      node_exporter:
      prometheus: {{scrape_interval_s: 5}}
      alertmanager:
        receivers:
          hook: {{webhook: {{url: {{secret: hook}}, token: {{secret: token}}}}}}
          ann: {{mail: {{to: [ann@home.example], sender: paddock@home.example, server: "{me}:{mail}", tls: false}}, severities: [critical]}}
          broken: {{webhook: {{url: "http://{me}:{hook}/broken"}}}}
        dead_man: {{url: "http://{me}:{hook}/alive", every_minutes: 1}}
  far:
    {far}
    roles:
      base: {{time: elsewhere}}
      alertmanager: {{listen: "0.0.0.0:9093"}}
  away:
    {away}
    roles:
      base: {{time: elsewhere}}
      node_exporter: {{listen: "0.0.0.0:9100"}}
"""

TOKEN = "tk-of-the-webhook"

PROVOKED = {
    # Alert: the host on which a script brings it about. A lab host has no sensor: another program says that of a Raspberry Pi.
    "HostDown": ("away", "systemctl stop prometheus-node-exporter"),
    "ServiceDown": ("far", "systemctl stop prometheus-alertmanager"),
    "Hot": ("box", """echo 'node_thermal_zone_temp{zone="0",type="cpu-thermal"} 85' >/var/lib/paddock/metrics/warm.prom"""),
    "ServiceFailed": ("box", "systemd-run --quiet --unit=paddock-test /bin/false"),
    "WatchdogGaveUp": ("box", "systemd-run --quiet --unit=paddock-watchdog /bin/false"),
    "CertificateExpires": ("box", "systemd-run --quiet --unit=paddock-expiry-test /bin/false"),
    "ServiceRestarts": (
        "box",
        "systemd-run --quiet --unit=paddock-again -p Restart=always -p RestartSec=6 -p StartLimitIntervalSec=0 /bin/sleep 1",
    ),
    "ConfigurationRefused": ("box", "echo nonsense: >>/etc/paddock/prometheus/prometheus.yml; systemctl reload prometheus"),
}
"""Beside these, NotificationsFail and AlertmanagerLost come of the receiver that is broken and of `far`."""

ALL = {*PROVOKED, "NotificationsFail", "AlertmanagerLost"}
SILENCING = """
import control.ssh.cooperative
import sys
from pathlib import Path

from control.lifecycle.silences import silenced
from control.state.fleet import FleetState
from inventory.load import load

inventory = Path(sys.argv[1])
fleet = load(inventory)
with silenced(fleet, FleetState.of(inventory, fleet.name), ["away"], 600, print):
    print("silenced", flush=True)
    sys.stdin.readline()
"""
LONGEST_S = 12 * 60


@dataclass
class Receiver:
    """`told` are the alerts of the webhook, each with the moment; `mails` the subjects and texts; `alive` the moments of the dead man's."""

    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    mails: list[tuple[str, str]] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)

    def of(self, name: str, status: str = "firing") -> list[tuple[float, dict[str, Any]]]:
        return [(at, each) for at, each in self.told if each["labels"]["alertname"] == name and each["status"] == status]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = email.message_from_bytes(envelope.content or b"", policy=policy.default)
        body = message.get_body(("plain",))
        self.mails.append((str(message["Subject"]), body.get_content() if body else ""))
        return "250 taken"


@contextmanager
def receiver(address: str) -> Iterator[tuple[Receiver, int, int]]:
    """What listens there, and the ports of its webhook and its mail server."""
    found = Receiver()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/alive":
                found.alive.append(time.time())
            elif self.path != "/hook" or self.headers["Authorization"] != f"Bearer {TOKEN}":
                found.unknown.append(self.path)
                self.send_error(500)
                return
            else:
                found.told.extend((time.time(), each) for each in json.loads(said)["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server((address, 0)) as free:
        mail = free.getsockname()[1]
    post = Controller(found, hostname=address, port=mail)
    post.start()
    try:
        yield found, server.server_port, mail
    finally:
        post.stop()
        server.shutdown()
        server.server_close()


@dataclass
class Story:
    fleet: LabFleet
    receiver: Receiver
    began: float = 0.0

    def paddock(self, *arguments: str) -> tuple[int, str]:
        done = self.fleet.paddock(*arguments)
        print(done.stdout, done.stderr, flush=True)
        return done.returncode, done.stdout + done.stderr


def _place(fleet: LabFleet, name: str) -> str:
    host = fleet.host(name)
    return f'address: {host.address}\n    ssh_key: "{host.ssh_key}"\n    host_key: "{host.host_key}"'


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    bare = {name: f"address: 192.0.2.{10 + n}" for n, name in enumerate(("box", "far", "away"))}
    with lab_fleet("alerts", tmp_path_factory.mktemp("alerts"), MACHINES.format(**bare, me="192.0.2.1", mail=25, hook=80)) as fleet:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.connect((fleet.host("box").address, 9))
            me = there.getsockname()[0]
        with receiver(me) as (told, hook, mail):
            places = {name: _place(fleet, name) for name in bare}
            fleet.write(MACHINES.format(**places, me=me, mail=mail, hook=hook))
            story = Story(fleet, told)
            code, said = story.paddock("up", "--yes")
            assert code == 1 and "there is no secret hook yet: `paddock secrets set hook`" in said, said
            for name, value in (("hook", f"http://{me}:{hook}/hook"), ("token", TOKEN)):
                command = fleet.command("secrets", "set", name)
                subprocess.run(command, cwd=fleet.product, env=fleet.env, input=value, text=True, check=True)
            code, said = story.paddock("up", "--yes")
            assert code == 0, said
            yield story


def test_a_second_run_changes_nothing(story: Story) -> None:
    code, said = story.paddock("plan", "--json")
    assert code == 0, said


def test_secrets_are_read_by_alertmanager_alone(story: Story) -> None:
    assert story.fleet.on("box", "stat -c '%U %a' /etc/paddock/alertmanager/alertmanager.yml") == "prometheus 600\n"
    shown = story.fleet.on("box", "curl -sS http://127.0.0.1:9093/api/v2/status; ps aux; journalctl --no-pager -u prometheus-alertmanager")
    assert TOKEN not in shown


def test_nothing_listens_but_what_is_declared(story: Story) -> None:
    listed = story.fleet.on("box", "ss -Hltun | awk '{print $5}'").split()
    assert "127.0.0.1:9093" in listed and not [each for each in listed if each.endswith(":9094")]


def test_every_alert_reaches_whom_it_is_for(story: Story) -> None:
    """Prints how long each took beside what its rule waits for."""
    assert story.receiver.of("HostDown") == []
    began = time.time()
    for name, (host, script) in PROVOKED.items():
        story.fleet.on(host, script)
        print(f"alerts: {name} is brought about at {time.time() - began:.0f} s", flush=True)
    missing = set(ALL)
    while missing and time.time() - began < LONGEST_S:
        for name in sorted(missing):
            if found := story.receiver.of(name):
                missing.discard(name)
                print(f"alerts: {name} is told of at {found[0][0] - began:.0f} s", flush=True)
        time.sleep(1)
    assert not missing, story.receiver.told
    hosts = {name: {each["labels"]["host"] for _, each in story.receiver.of(name)} for name in PROVOKED}
    assert hosts["HostDown"] == {"away"} and hosts["ServiceDown"] == {"far"}
    for _, each in story.receiver.told:
        assert each["annotations"]["page"] == f"docs/alerts.md#{each['labels']['alertname'].lower()}"
        assert each["annotations"]["summary"] and each["annotations"]["what_to_do"] and "{{" not in str(each["annotations"])


def test_mail_has_what_is_critical_and_says_what_to_do(story: Story) -> None:
    subjects = [subject for subject, _ in story.receiver.mails]
    assert "HostDown on away (critical)" in subjects and not [each for each in subjects if "ServiceRestarts" in each]
    text = next(text for subject, text in story.receiver.mails if subject == "HostDown on away (critical)")
    assert "away does not show its metrics." in text and "docs/alerts.md#hostdown" in text


def test_the_dead_mans_switch_is_called_and_nobody_else_is_told_of_it(story: Story) -> None:
    assert len(story.receiver.alive) >= 3
    assert story.receiver.of("DeadMansSwitch") == []


def test_a_receiver_without_its_token_is_told_nothing(story: Story) -> None:
    assert set(story.receiver.unknown) == {"/broken"}


def test_what_is_over_is_told_too(story: Story) -> None:
    story.fleet.on("away", "systemctl start prometheus-node-exporter")
    until = time.time() + 300
    while not story.receiver.of("HostDown", "resolved") and time.time() < until:
        time.sleep(1)
    assert story.receiver.of("HostDown", "resolved")


def test_what_is_upgraded_is_silenced_as_long_as_that_lasts(story: Story) -> None:
    """As `paddock upgrade` has it around each switch. `far`'s Alertmanager is stopped, which keeps nothing from going on."""
    silences = "amtool --alertmanager.url=http://127.0.0.1:9093 silence query"
    command = [sys.executable, "-c", SILENCING, str(story.fleet.inventory)]
    with subprocess.Popen(
        command, cwd=story.fleet.product, env=story.fleet.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as working:
        assert working.stdin and working.stdout
        said = []
        for line in working.stdout:
            said.append(line.strip())
            if line == "silenced\n":
                break
        assert said[-1:] == ["silenced"] and len(said) == 2 and said[0].startswith("far: "), said
        found = story.fleet.on("box", silences)
        assert 'host=~"away"' in found and "paddock" in found, found
        working.stdin.write("\n")
        working.stdin.flush()
        assert working.wait(timeout=120) == 0
    assert 'host=~"away"' not in story.fleet.on("box", silences)


def test_verify_tells_of_an_alertmanager_that_has_stopped(story: Story) -> None:
    code, said = story.paddock("verify")
    assert code == 1 and "far/alertmanager is not up" in said, said


def test_up_puts_it_right_and_nothing_stays_after_a_teardown(story: Story) -> None:
    story.fleet.on("box", "systemctl stop paddock-again; systemctl reset-failed; rm /var/lib/paddock/metrics/warm.prom")
    code, said = story.paddock("up", "--yes")
    assert code == 0, said
    code, said = story.paddock("teardown", "--yes", "--data")
    assert code == 0, said
    for host in ("box", "far", "away"):
        left = story.fleet.on(
            host,
            "ls -d /etc/paddock /etc/prometheus /etc/default/prometheus* /var/lib/prometheus /var/lib/paddock-*"
            " /etc/systemd/system/prometheus*; getent passwd prometheus; dpkg -l 'prometheus*' | grep '^.[^n]';"
            " systemctl list-unit-files --no-legend 'prometheus*'",
            check=False,
        )
        assert left == "", left
