"""Ways in which a server does not do what was declared, each made for real: `status` and `verify` name it, and a clean host has none."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import spread, turn

pytestmark = turn(2, of=5)

INVENTORY = """
fleet: ways
domain: home.example
networks: [192.0.2.0/24]
settle: 0
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      firewall:
      llama_cpp: {ui: false}
      models:
      llama_server:
        listen: 0.0.0.0:8080
        models: [demo]
        api_key: true
        instances: {fixed: {model: demo, listen: '127.0.0.1:8090'}}
      watchdog:
  door:
    address: 192.0.2.11
    roles:
      base: {time: elsewhere}
      caddy: {sites: {ai.home.example: {upstream: ai}}}
models: {demo: {preset: {ctx-size: 512}}}
clients: {laptop: }
"""

UNIT = "llama-server.service"
LISTENER = "paddock-proxy-llama-server.socket"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
AGAIN = f"systemctl daemon-reload; systemctl reset-failed {UNIT}; systemctl restart {UNIT}"
WELL = "for try in $(seq 100); do curl -fsS -o /dev/null -m 1 127.0.0.1:8080/health 2>/dev/null && break; sleep 0.1; done"
RELEASE = "$(readlink /opt/paddock/llama.cpp/current)"
PRESETS = "/etc/paddock/llama-server/presets.ini"
MODEL = "/var/lib/paddock/models/demo.gguf"


@dataclass(frozen=True)
class Way:
    """`cause` and `undo` are shell scripts on `host`; `names` stands in what status and verify say of it."""

    name: str
    cause: str
    undo: str
    names: str
    host: str = "ai"

    def __str__(self) -> str:
        return self.name


def drop_in(name: str, text: str, names: str = "zz-mine.conf", at: str = DROP_INS) -> Way:
    write = f"mkdir -p {at}; printf '[Service]\\n{text}\\n' >{at}/zz-mine.conf; {AGAIN} || true; {WELL}"
    return Way(name, write, f"rm {at}/zz-mine.conf; rmdir --ignore-fail-on-non-empty {at}; {AGAIN}; {WELL}", names)


def changed(name: str, path: str, sed: str, names: str = "", then: str = "") -> Way:
    cause = f"cp -a {path} /root/kept; sed -i '{sed}' {path}; {then}"
    return Way(name, cause, f"cp -a /root/kept {path}.put; mv -T {path}.put {path}; {AGAIN}; {WELL}", names or path)


def told(name: str, cause: str, undo: str, names: str, host: str = "ai") -> Way:
    return Way(name, cause, undo, names, host)


RESTART = f"{AGAIN}; {WELL}"
UNTOLD = f"{WELL}; rm -f /run/paddock/watchdog/*.restarted"
"""The watchdog may have acted meanwhile."""

WAYS = (
    drop_in("a drop-in that limits every answer", "Environment=LLAMA_ARG_N_PREDICT=5"),
    drop_in("a drop-in that opens the sandbox", "ProtectSystem=no"),
    drop_in("a drop-in that opens the network", "IPAddressDeny="),
    drop_in("a drop-in with another command", "ExecStart=\\nExecStart=/bin/sleep 1000"),
    drop_in("a drop-in that takes a limit away", "LimitNOFILE=1024"),
    drop_in("a drop-in for all services", "Nice=5", at="/etc/systemd/system/service.d"),
    drop_in("a drop-in until the next boot", "Nice=5", at=f"/run/systemd/system/{UNIT}.d"),
    told(
        "a property that was set",
        f"systemctl set-property {UNIT} CPUQuota=900%",
        f"rm -r /etc/systemd/system.control/{UNIT}.d; {RESTART}",
        "/etc/systemd/system.control",
    ),
    told(
        "a property that was set until the next boot",
        f"systemctl set-property --runtime {UNIT} CPUQuota=900%",
        f"rm -r /run/systemd/system.control/{UNIT}.d; {RESTART}",
        "/run/systemd/system.control",
    ),
    told(
        "a variable for all services",
        f"systemctl set-environment LLAMA_ARG_N_PREDICT=5; {RESTART}",
        f"systemctl unset-environment LLAMA_ARG_N_PREDICT; {RESTART}",
        "LLAMA_ARG_N_PREDICT",
    ),
    told(
        "a variable in systemd's own configuration",
        f"mkdir -p /etc/systemd/system.conf.d; printf '[Manager]\\nDefaultEnvironment=GGML_X=1\\n' >/etc/systemd/system.conf.d/x.conf;"
        f" systemctl daemon-reexec; {RESTART}",
        f"rm /etc/systemd/system.conf.d/x.conf; systemctl daemon-reexec; {RESTART}",
        "GGML_X",
    ),
    changed("the unit was edited", f"/etc/systemd/system/{UNIT}", "s/^UMask=.*/UMask=0000/", then=RESTART),
    changed("the unit was edited behind systemd's back", f"/etc/systemd/system/{UNIT}", "s/^UMask=.*/UMask=0000/"),
    changed("the preset was edited", PRESETS, "s/ctx-size = .*/ctx-size = 256/", then=RESTART),
    changed("the preset was edited and is not in force", PRESETS, "s/ctx-size = .*/ctx-size = 256/"),
    changed("another key", "/etc/paddock/llama-server/api-key.env", "s/=.*/=another/", then=RESTART),
    told("not started at boot", f"systemctl disable -q {UNIT}", f"systemctl enable -q {UNIT}", "enabled"),
    told("stopped", f"systemctl stop {UNIT}", RESTART, UNIT),
    told("masked", "systemctl mask -q caddy", "systemctl unmask -q caddy", "caddy.service", "door"),
    told("it hangs", f"systemctl kill -s STOP {UNIT}", f"systemctl kill -s CONT {UNIT}; {UNTOLD}", "hangs: no answer to /health"),
    told("it is frozen", f"systemctl freeze {UNIT}", f"systemctl thaw {UNIT}; {UNTOLD}", "hangs: no answer to /health"),
    told(
        "it died, and was started again",
        f"systemctl kill --kill-whom=main -s KILL {UNIT}; sleep 3; {WELL}",
        RESTART,
        "restarts",
    ),
    told(
        "another program answers in its place",
        f"systemctl stop {LISTENER}; systemd-run -q --unit=other systemd-socket-activate -l 8080 --inetd -a /bin/cat; sleep 0.3",
        f"systemctl stop other; systemctl start {LISTENER}",
        "port:8080/tcp",
    ),
    told(
        "its program was replaced under it",
        f"cd {RELEASE}/bin; cp -a llama-server new; mv new llama-server",
        "",  # `up` puts it back: see below
        "program",
    ),
    told("the model is gone", f"mv {MODEL} {MODEL}.away", f"mv {MODEL}.away {MODEL}", MODEL),
    told("the model cannot be read", f"chmod 600 {MODEL}; chown games {MODEL}", f"chmod 644 {MODEL}; chown root {MODEL}", MODEL),
    told(
        "another model under its name",
        f"cp -a {MODEL} /root/kept; echo x >>{MODEL}",
        f"cp -a /root/kept {MODEL}.new; mv {MODEL}.new {MODEL}",
        MODEL,
    ),
    told("the firewall was flushed", "nft flush ruleset", "systemctl restart paddock-firewall", "in force"),
    told(
        "a rule of the firewall is gone",
        "nft flush chain inet paddock input",
        "systemctl reload paddock-firewall",
        "in force",
    ),
    told(
        "a rule was added to the firewall",
        "nft insert rule inet paddock input tcp dport 8080 accept",
        "systemctl reload paddock-firewall",
        "in force",
    ),
    told("nobody watches", "systemctl stop paddock-watchdog.timer", "systemctl start paddock-watchdog.timer", "paddock-watchdog.timer"),
    told(
        "a watchdog of another program",
        "cp -a /etc/paddock/watchdog/watchdog.sh /root/kept; echo exit >/etc/paddock/watchdog/watchdog.sh",
        "cp -a /root/kept /etc/paddock/watchdog/watchdog.sh",
        "watchdog.sh",
    ),
    told("an account in one group more", "gpasswd -a llama-server disk", "gpasswd -d llama-server disk", "groups"),
    told("the door is shut", "systemctl stop caddy", "systemctl start caddy", "caddy.service", "door"),
    told(
        "the door lets another in",
        "cd /etc/caddy/paddock; cp -a sites.caddy /root/kept; sed -i '/client_auth/,/}/d' sites.caddy",
        "cp -a /root/kept /etc/caddy/paddock/sites.caddy",
        "sites.caddy",
        "door",
    ),
)
CHOSEN = spread("ways", WAYS, 4)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("ways")
    with lab_fleet("ways", tmp_path_factory.mktemp("ways"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


def test_there_are_thirty_ways() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS) >= 30


def test_a_clean_host_has_none(fleet: LabFleet) -> None:
    for verb in ("status", "verify"):
        done = fleet.paddock(verb, "--lab")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", CHOSEN, ids=str)
def test_status_and_verify_name_it(fleet: LabFleet, way: Way) -> None:
    fleet.on(way.host, way.cause)
    began = time.monotonic()
    try:
        status, verified = fleet.paddock("status", "--lab", "--limit", way.host), fleet.paddock("verify", "--lab", "--limit", way.host)
    finally:
        fleet.on(way.host, way.undo)
    print(f"{time.monotonic() - began:.1f} s\n{verified.stderr}", flush=True)
    assert (status.returncode, verified.returncode) == (3, 1), status.stdout + verified.stdout
    assert way.names in status.stdout + status.stderr
    assert way.names in verified.stdout + verified.stderr


def test_it_is_clean_again(fleet: LabFleet) -> None:
    fleet.up()
    done = fleet.paddock("status", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr


FLIP = "printf '\\007' | dd of={0} bs=1 seek=$(($(stat -c %s {0}) - 1)) conv=notrunc status=none"
"""Another last byte, without a trace in size or time."""


def test_a_release_that_was_changed_is_seen_and_put_back(fleet: LabFleet) -> None:
    program = f"{RELEASE}/bin/llama-bench"
    fleet.on("ai", f'before=$(stat -c %y {program}); {FLIP.format(program)}; touch -d "$before" {program}')
    planned = fleet.paddock("plan", "--lab")
    assert planned.returncode == 3
    assert "fingerprint bin/llama-bench was changed" in planned.stdout
    fleet.up()
    assert fleet.paddock("verify", "--lab").returncode == 0


def test_a_model_that_rots_without_a_trace_is_found_and_put_back_by_a_deep_run(fleet: LabFleet) -> None:
    fleet.on("ai", f'before=$(stat -c %y {MODEL}); {FLIP.format(MODEL)}; touch -d "$before" {MODEL}')
    assert fleet.paddock("plan", "--lab").returncode == 0, "what was noted of it still holds"
    assert f"model:{MODEL}" in fleet.paddock("verify", "--lab", "--deep").stderr
    assert f"model:{MODEL}" in fleet.paddock("plan", "--lab", "--deep").stdout
    fleet.up("--deep")
    assert fleet.paddock("verify", "--lab", "--deep").returncode == 0
    assert "0 changed" in fleet.up("--deep").stdout


def test_up_watches_what_it_started_and_an_accepted_drop_in_stays(fleet: LabFleet) -> None:
    """Its own drop-in ends the server once, six seconds after it has started."""
    mine = f"{DROP_INS}/zz-mine.conf"
    ends = (
        '[Service]\\nExecStartPost=+/bin/sh -c "(mkdir /run/ended && sleep 6 && kill -KILL $MAINPID) >/dev/null 2>&1 &"\\nRestartSec=1\\n'
    )
    accepted = INVENTORY.replace("base: {time: elsewhere}", f"base: {{time: elsewhere, accepted_units: [{mine}]}}", 1)
    fleet.on("ai", f"printf '{ends}' >{mine}; systemctl daemon-reload")
    try:
        fleet.write(accepted.replace("settle: 0", "settle: 10").replace("ctx-size: 512", "ctx-size: 768"))
        failed = fleet.paddock("up", "--lab", "--yes")
        assert failed.returncode == 1, failed.stdout
        assert "ai  watches what was started for 10 s" in failed.stdout
        assert re.search(
            "still differs after the run: service:llama-server.service (active is .*, )?restarts is 1, the last", failed.stderr
        )
        assert mine not in failed.stderr
    finally:
        fleet.on("ai", f"rm -r {mine} /run/ended; {RESTART}")
    fleet.write(INVENTORY)
    fleet.up()
