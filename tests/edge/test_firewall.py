"""An AI host behind its own firewall, seen from its reverse proxy, from a third host, and from this machine.

There is no tunnel before the server: the firewall is all that keeps others away. tests/edge/test_hop.py has both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from roles.firewall.plan import RULES
from tests.lab.snapshot import Snapshot, differing, inside, snapshot
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=3)

INVENTORY = """
fleet: wall
domain: home.example
networks: [192.0.2.0/24]
hosts:
  halo:
    address: 192.0.2.3
    roles:
      base: {time: elsewhere}
      firewall:
      llama_cpp: {ui: false}
      models:
      llama_server: {listen: "[::]:8080", models: [demo], encrypted: false}
  door:
    address: 192.0.2.2
    roles:
      base: {time: elsewhere}
      caddy: {sites: {ai.home.example: {upstream: halo}}}
  stray:
    address: 192.0.2.9
    roles:
      base: {time: elsewhere}
models: {demo: {preset: {ctx-size: 512}}}
clients: {laptop: }
"""

LISTENER = "paddock-proxy-llama-server.socket"
STRAY_6 = "fd00:9:9::9"
HALO_6 = "fd00:9:9::3"

TABLES = "nft list tables"
FOREIGN = "table ip mine"
"""Somebody else's: it has a chain that lets everything through, and counts it."""


@pytest.fixture(scope="module")
def before() -> dict[str, Snapshot]:
    """Each host before Paddock came."""
    return {}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, before: dict[str, Snapshot]) -> Iterator[LabFleet]:
    lab_hosts.down("wall")
    with lab_fleet("wall", tmp_path_factory.mktemp("wall"), INVENTORY, ready=True) as fleet:
        before["halo"] = snapshot(fleet.host("halo").container)
        with_ipv6(fleet)
        fleet.up()
        fleet.on("halo", f"nft add {FOREIGN}; nft add chain ip mine input '{{ type filter hook input priority 0; }}'")
        fleet.on("halo", "nft add rule ip mine input counter")
        yield fleet


def with_ipv6(fleet: LabFleet) -> None:
    """Between these two, on the link that they share: the lab's network has none."""
    for host, address in (("halo", HALO_6), ("stray", STRAY_6)):
        script = (
            f"sysctl -q net.ipv6.conf.all.disable_ipv6=0; ip -6 address replace {address}/64 dev eth0 nodad; ip -6 neighbour flush dev eth0"
        )
        inside(fleet.host(host).container, script)


def said_to(fleet: LabFleet, host: str, at: str = "") -> str:
    """The status that the server's health has for a caller on this host; `refused` where no connection comes to be."""
    asked = f"curl -sS -o /dev/null -w '%{{http_code}}' --max-time 5 http://{at or fleet.host('halo').address}:8080/health 2>&1"
    answer = fleet.on(host, f"{asked} || true")
    return "refused" if "Could not connect" in answer or "Failed to connect" in answer else answer


def wait_until_it_serves(fleet: LabFleet) -> None:
    inside(fleet.host("halo").container, "for i in $(seq 100); do curl -fsS 127.0.0.1:8080/health && break; sleep 0.3; done")


def test_the_reverse_proxy_reaches_the_server_and_a_third_host_does_not(fleet: LabFleet) -> None:
    assert said_to(fleet, "door") == "200"
    assert said_to(fleet, "stray") == "refused"


def test_nor_does_it_over_ipv6(fleet: LabFleet) -> None:
    assert "SSH-2.0" in fleet.on("stray", f"timeout 5 bash -c 'head -n 1 </dev/tcp/{HALO_6}/22'")
    assert said_to(fleet, "halo", f"[{HALO_6}]") == "200"
    assert said_to(fleet, "stray", f"[{HALO_6}]") == "refused"


def test_the_host_itself_reaches_it_at_every_address(fleet: LabFleet) -> None:
    assert [said_to(fleet, "halo", at) for at in ("127.0.0.1", "[::1]", fleet.host("halo").address)] == ["200"] * 3


def test_a_second_run_finds_nothing_to_do_and_the_checks_see_what_is_so(fleet: LabFleet) -> None:
    assert "0 changed" in fleet.up().stdout
    done = fleet.paddock("verify", "--lab", "--limit", "halo")
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_unit_is_as_systemd_wants_it(fleet: LabFleet) -> None:
    assert fleet.on("halo", "systemd-analyze verify paddock-firewall.service 2>&1; echo $?").strip() == "0"


def test_an_exception_is_let_in_and_a_connection_outlives_it(fleet: LabFleet) -> None:
    process = fleet.on("halo", "systemctl show -P InvocationID llama-server")
    address = fleet.host("halo").address
    allowed = f"firewall: {{allow: {{'8080': [{fleet.host('stray').address}, '{STRAY_6}']}}}}"
    fleet.write(INVENTORY.replace("firewall:", allowed))
    fleet.up()
    assert [said_to(fleet, "stray"), said_to(fleet, "stray", f"[{HALO_6}]")] == ["200", "200"]
    # One connection that asks again and again, also after the exception has gone: llama-server ends an idle one after five seconds.
    asks = r"while :; do printf 'GET /health HTTP/1.1\r\nHost: halo\r\n\r\n' >&3; timeout 0.5 cat <&3; done"
    inside(fleet.host("stray").container, f'setsid timeout 300 bash -c "exec 3<>/dev/tcp/{address}/8080; {asks}" >/tmp/talk 2>&1 & sleep 1')
    fleet.write(INVENTORY)
    fleet.up()
    assert [said_to(fleet, "stray"), said_to(fleet, "stray", f"[{HALO_6}]")] == ["refused", "refused"]
    answered = "grep -c 'HTTP/1.1 200 OK' /tmp/talk"
    so_far = int(fleet.on("stray", answered))
    assert int(fleet.on("stray", f"sleep 3; {answered}")) > so_far > 0
    assert fleet.on("halo", "systemctl show -P InvocationID llama-server") == process


def test_what_others_have_in_nftables_stays(fleet: LabFleet) -> None:
    assert set(fleet.on("halo", TABLES).splitlines()) == {FOREIGN, "table inet paddock"}
    assert fleet.on("halo", "nft list chain ip mine input | grep -c counter").strip() == "1"


def test_a_flush_by_debians_own_firewall_brings_it_back(fleet: LabFleet) -> None:
    for verb in ("restart", "reload"):
        fleet.on(
            "halo", f"systemctl {verb} nftables; for i in $(seq 50); do systemctl is-active paddock-firewall && break; sleep 0.1; done"
        )
        assert "table inet paddock" in fleet.on("halo", TABLES), verb
        assert said_to(fleet, "stray") == "refused"
    fleet.on("halo", f"systemctl stop nftables; nft add {FOREIGN}")
    fleet.up()
    assert said_to(fleet, "stray") == "refused"


def test_a_table_that_somebody_has_changed_is_found(fleet: LabFleet) -> None:
    fleet.on("halo", "nft insert rule inet paddock input tcp dport 8080 accept")
    found = fleet.paddock("verify", "--lab", "--limit", "halo")
    assert found.returncode == 1 and "somebody has changed it" in found.stdout + found.stderr
    assert "which no rule names" in found.stdout + found.stderr
    fleet.on("halo", "systemctl reload paddock-firewall")
    assert fleet.paddock("verify", "--lab", "--limit", "halo").returncode == 0


@pytest.mark.parametrize(
    "attack",
    [
        "nft flush ruleset",
        "nft flush table inet paddock",
        f"echo garbage >>{RULES}; systemctl restart paddock-firewall || true",
    ],
)
def test_without_its_rules_nothing_that_they_guard_starts(fleet: LabFleet, attack: str) -> None:
    since = fleet.on("halo", f"date '+%F %T'; {attack}").strip()
    assert fleet.on("halo", f"systemctl restart {LISTENER} && echo started || true") == ""
    assert said_to(fleet, "stray") == said_to(fleet, "halo") == "refused"
    said = fleet.on("halo", f"journalctl -q --sync; journalctl -q -u {LISTENER} -o cat --since '{since}'")
    assert "cannot listen on port 8080/tcp: the firewall" in said and "`journalctl -u paddock-firewall.service` says why" in said
    status = fleet.paddock("status", "--lab", "--limit", "halo").stdout
    (line,) = [each for each in status.splitlines() if "service:paddock-firewall.service" in each]
    assert "differs" in line and ("in force" in line or " failed " in line)
    fleet.up("--limit", "halo", "--no-verify")
    assert (said_to(fleet, "door"), said_to(fleet, "stray")) == ("200", "refused")


def test_rules_that_cannot_be_loaded_leave_the_old_ones_and_the_server_alone(fleet: LabFleet) -> None:
    fleet.on("halo", f"cp -p {RULES} /root/rules; echo garbage >>{RULES}; systemctl reload paddock-firewall && echo loaded || true")
    fleet.on("halo", f"systemctl restart llama-server {LISTENER}")
    wait_until_it_serves(fleet)
    assert (said_to(fleet, "door"), said_to(fleet, "stray")) == ("200", "refused")
    fleet.on("halo", f"cp -p /root/rules {RULES}; systemctl reload paddock-firewall")


def test_after_a_reboot_it_stands_before_the_server_listens(fleet: LabFleet) -> None:
    inside(fleet.host("halo").container, "systemctl reboot")
    time.sleep(3)
    lab_hosts.up(load(fleet.inventory))
    wait_until_it_serves(fleet)
    units = ("paddock-firewall", "network-pre.target", LISTENER)
    stood, network, served = (int(fleet.on("halo", f"systemctl show -P ActiveEnterTimestampMonotonic {unit}")) for unit in units)
    assert 0 < stood <= network and stood < served
    with_ipv6(fleet)
    assert said_to(fleet, "door") == "200"
    assert [said_to(fleet, "stray"), said_to(fleet, "stray", f"[{HALO_6}]")] == ["refused", "refused"]


def test_a_teardown_takes_its_table_and_nothing_else(fleet: LabFleet, before: dict[str, Snapshot]) -> None:
    container = fleet.host("halo").container
    inside(container, f"nft add {FOREIGN}")
    done = fleet.paddock("teardown", "--lab", "--yes", "--data")
    assert done.returncode == 0, done.stdout + done.stderr
    after = snapshot(container)
    for aspect in ("unit_files", "packages", "listening"):
        assert differing(getattr(before["halo"], aspect), getattr(after, aspect)) == {}
    assert [name for name in after.units if "paddock" in name or "nftables" in name] == []
    left = set(differing(before["halo"].files, after.files)) - {"/etc/ld.so.cache", "/etc/hosts"}  # the second is the lab's, of its address
    assert {path for path in left if not path.endswith("-")} == set()
    inside(container, "apt-get -qq -y install nftables >/dev/null 2>&1")
    assert inside(container, TABLES).splitlines() == [FOREIGN]
