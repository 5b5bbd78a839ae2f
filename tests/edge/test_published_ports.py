"""Every TCP port of a host whose containers publish some, scanned from two others over IPv4 and IPv6: open is what the inventory says, with
Docker's own rules in place, and after restarts of the engine, of the firewall and of the machine.

The tests are one story, in the order of the file. The role that declares the stack is in tests/serving/crate.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from tests.extended import add_name, extended
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

INVENTORY = """
fleet: scanned
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      firewall:
      docker:
CRATES
  friend: {address: 192.0.2.11, roles: {base: {time: elsewhere}}}
  stray: {address: 192.0.2.12, roles: {base: {time: elsewhere}}}
"""

CRATES = """      crate:
        crates:
          near: {image: "IMAGE", listen: "127.0.0.1:8071"}
          all: {image: "IMAGE", listen: "0.0.0.0:8072"}
          none: {image: "IMAGE", listen: "0.0.0.0:8073", callers: []}
          some: {image: "IMAGE", listen: "0.0.0.0:8074", callers: [friend]}
          all-6: {image: "IMAGE", listen: "[::]:8075"}
          none-6: {image: "IMAGE", listen: "[::]:8076", callers: []}
"""

ADDRESSES = {"box": "fd00:9:9::10", "friend": "fd00:9:9::11", "stray": "fd00:9:9::12"}
"""Of IPv6, on the link that the hosts share: the lab's network has none."""

IMAGE = """set -e
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends busybox-static docker-registry >/dev/null
mkdir -p /etc/docker/registry
cat >/etc/docker/registry/config.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: "127.0.0.1:5000"}
END
systemctl restart docker-registry
for each in $(seq 300); do ! curl -fs http://127.0.0.1:5000/v2/ >/dev/null || break; sleep 0.2; done
mkdir -p /root/crate/bin /root/crate/www /root/crate/data
cp /bin/busybox /root/crate/bin/busybox
tar -C /root/crate -c . | docker import - 127.0.0.1:5000/crate:1 >/dev/null
docker push -q 127.0.0.1:5000/crate:1 >/dev/null
docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/crate:1
"""

OPEN_TO_ALL = {4: {22, 8072, 8075}, 6: {22, 8075}}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    product = extended(tmp_path_factory.mktemp("crate") / "product")
    role = Path(__file__).parents[1] / "serving" / "crate"
    shutil.copytree(role, product.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(product.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    with lab_fleet("scanned", tmp_path_factory.mktemp("scanned"), INVENTORY.replace("CRATES\n", "")) as fleet:
        fleet.product = product.root
        for host in ADDRESSES:
            with_ipv6(fleet, host)
        fleet.up()
        image = fleet.on("box", IMAGE).strip()
        for host in ("friend", "stray"):
            fleet.on(
                host, "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nmap >/dev/null"
            )
        # Of what the lab itself reads, which knows no role of tests.
        fleet.inventory.with_name("hosts.yml").write_text(fleet.inventory.read_text())
        fleet.write(INVENTORY.replace("CRATES\n", CRATES.replace("IMAGE", image)))
        fleet.up()
        yield fleet


def with_ipv6(fleet: LabFleet, host: str) -> None:
    inside(
        fleet.host(host).container,
        "echo net.ipv6.conf.all.disable_ipv6=0 >/etc/sysctl.d/90-lab.conf; sysctl -q -p /etc/sysctl.d/90-lab.conf;"
        f" ip -6 address replace {ADDRESSES[host]}/64 dev eth0 nodad; ip -6 neighbour flush dev eth0",
    )


def scanned(fleet: LabFleet, host: str) -> dict[int, set[int]]:
    """The ports of `box` that are open to a host, by the version of IP."""
    found, began = {}, time.monotonic()
    for version, option, at in ((4, "", fleet.host("box").address), (6, "-6", ADDRESSES["box"])):
        said = fleet.on(host, f"nmap {option} -n -Pn -sS -p- --open --max-retries 2 --min-rate 3000 -oG - {at}")
        found[version] = {int(port) for port in re.findall(r"(\d+)/open/tcp", said)}
    print(f"scan: all ports of box from {host}, over IPv4 and IPv6: {time.monotonic() - began:.0f} s", flush=True)
    return found


def test_everybody_reaches_what_is_open_to_all_and_nothing_else(fleet: LabFleet) -> None:
    assert scanned(fleet, "stray") == OPEN_TO_ALL


def test_who_is_named_reaches_what_it_is_named_for(fleet: LabFleet) -> None:
    assert scanned(fleet, "friend") == {**OPEN_TO_ALL, 4: OPEN_TO_ALL[4] | {8074}}


def test_the_host_itself_reaches_all_of_them(fleet: LabFleet) -> None:
    for port in (8071, 8072, 8073, 8074, 8075, 8076):
        assert fleet.on("box", f"curl -sS --max-time 5 http://127.0.0.1:{port}/index.html") == "hello\n"


@pytest.mark.parametrize("unit", ["docker", "nftables"])
def test_it_stays_so_when_a_unit_is_restarted(fleet: LabFleet, unit: str) -> None:
    fleet.on("box", f"systemctl restart {unit}; for i in $(seq 50); do ! systemctl is-active paddock-firewall || break; sleep 0.1; done")
    until_they_answer(fleet)
    assert scanned(fleet, "stray") == OPEN_TO_ALL


def test_it_stays_so_after_a_boot(fleet: LabFleet) -> None:
    inside(fleet.host("box").container, "systemctl reboot")
    time.sleep(3)
    lab_hosts.up(load(fleet.inventory.with_name("hosts.yml")))
    with_ipv6(fleet, "box")
    until_they_answer(fleet)
    assert scanned(fleet, "stray") == OPEN_TO_ALL


def until_they_answer(fleet: LabFleet) -> None:
    asked = "curl -fsS --max-time 5 http://127.0.0.1:8072/index.html && curl -fsS --max-time 5 http://127.0.0.1:8075/index.html"
    fleet.on("box", f"for i in $(seq 100); do ! {{ {asked}; }} || exit 0; sleep 0.5; done; exit 1")


def test_without_the_firewalls_rules_the_scan_finds_what_they_keep_shut(fleet: LabFleet) -> None:
    fleet.on("box", "nft delete table inet paddock")
    assert scanned(fleet, "stray")[4] == OPEN_TO_ALL[4] | {8073, 8074, 8076}
    fleet.up()
    assert scanned(fleet, "stray") == OPEN_TO_ALL
