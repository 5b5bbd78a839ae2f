"""`paddock up` may die, or lose its network, at any boundary of a stack's change: the next run makes it whole, and one more changes nothing.

The host goes to and fro between two inventories. One container is the same in both: it runs through all of this. The role that declares the
stack is in tests/serving/crate.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

import pytest

from tests.extended import add_name, extended
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import spread, turn
from tests.wheel import ROOT

pytestmark = turn(0, of=5)

NAME = "stackkill"
DEADLINE_S = 90
NOTICED_S = 600
AT_A_TIME = 3
"""Boundaries of each kind in `make test`; a soak has all of them."""

FLEET = f"""
fleet: {NAME}
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {{time: elsewhere}}
      docker:
"""
CRATES = """      crate:
        crates:
          lasting: {image: "IMAGE", says: always, listen: "127.0.0.1:8070"}
          changed: {image: "IMAGE", says: SAYS, listen: "127.0.0.1:8071"}
"""
ONE = FLEET + CRATES.replace("SAYS", "first") + '          gone: {image: "IMAGE", says: gone, listen: "127.0.0.1:8072"}\n'
OTHER = FLEET + CRATES.replace("SAYS", "second") + '          new: {image: "OTHER", says: new, listen: "127.0.0.1:8073"}\n'

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
for each in one other; do
  echo $each >/root/crate/name
  tar -C /root/crate -c . | docker import - 127.0.0.1:5000/$each:1 >/dev/null
  docker push -q 127.0.0.1:5000/$each:1 >/dev/null
  docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/$each:1
  docker rmi 127.0.0.1:5000/$each:1 >/dev/null
done
"""

FOUND = r"""docker ps -a --format '{{.Names}} {{.State}} {{.Label "paddock.declared"}}' | sort
docker image ls --digests --format '{{.Repository}} {{.Digest}}' | sort
docker volume ls --format '{{.Name}}' | sort
docker network ls --format '{{.Name}}' | sort
find /run /tmp /var/tmp /root /etc /var/lib/paddock -xdev \( -path /run/systemd -o -path /run/user -o -path /run/log -o -path /run/docker \
    -o -path /run/containerd -o -name 'runc-process*' -o -name 'systemd-private-*' -o -path /var/lib/paddock/history \) -prune -o -print | sort
ls /run/systemd/transient | sed '/^session-/d; /^docker-/d' || true"""

ANSWERS = "for port in 8070 8071 8072 8073; do curl -sS --max-time 5 http://127.0.0.1:$port/index.html 2>/dev/null || echo nobody; done"
LASTING = "docker inspect --format '{{.Id}} {{.State.StartedAt}}' paddock-crate-lasting-1"

CUT = "ip route show default >/run/cut; ip link set eth0 down"
HEALED = "ip link set eth0 up; ip route add $(cat /run/cut); rm /run/cut"


@dataclass
class Shuttle:
    """The host, which of the two inventories it is at, what undisturbed runs made of it, and their boundaries."""

    fleet: LabFleet
    ways: tuple[str, str]
    at: int = 0
    undisturbed: dict[int, str] = field(default_factory=dict)
    boundaries: dict[int, list[str]] = field(default_factory=dict)

    @property
    def counted(self) -> Path:
        return self.fleet.directory / "counted"

    def on(self, script: str) -> str:
        """Past its network and its sshd."""
        return inside(f"paddock-{NAME}-box", script)

    def leave(self) -> None:
        self.at = 1 - self.at
        self.fleet.write(self.ways[self.at])

    def start(self, boundary: int = 0) -> Popen[str]:
        """An `up` that stops at this boundary, 0 for none."""
        stops = ("-m", "tests.faults.boundaries", str(self.counted), str(boundary), str(DEADLINE_S))
        command = [sys.executable, *stops, "-i", str(self.fleet.inventory), "up", "--lab", "--yes", "--no-verify"]
        env = {**self.fleet.env, "PYTHONPATH": f"{self.fleet.product}:{ROOT}"}
        return Popen(command, cwd=self.fleet.product, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, start_new_session=True)

    def goes(self) -> list[str]:
        """An `up` that nothing disturbs: its boundaries."""
        process = self.start()
        said, _ = process.communicate(timeout=900)
        assert process.returncode == 0 and "Traceback" not in said, said
        return self.counted.read_text().splitlines()

    def dies(self, boundary: int, *, cut: bool) -> None:
        """A run to the other inventory that is killed there, or loses its network."""
        process = self.start(boundary)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if not cut:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return
        self.on(CUT)
        try:
            os.killpg(process.pid, signal.SIGCONT)
            said, _ = process.communicate(timeout=NOTICED_S)
            assert process.returncode in (0, 1) and "Traceback" not in said, said
        except TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        finally:
            self.on(HEALED)

    def is_made_whole(self, what: str) -> None:
        began = time.monotonic()
        self.goes()
        assert self.on(FOUND) == self.undisturbed[self.at], what
        assert " 0 changed" in self.fleet.up("--no-verify").stdout, what
        print(f"  run again: {time.monotonic() - began:.0f} s", flush=True)


@pytest.fixture(scope="module")
def shuttle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shuttle]:
    product = extended(tmp_path_factory.mktemp("crate") / "product")
    role = Path(__file__).parents[1] / "serving" / "crate"
    shutil.copytree(role, product.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(product.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), FLEET) as fleet:
        fleet.product = product.root
        fleet.up()
        one, other = fleet.on("box", IMAGE).split()
        ways = (ONE.replace("IMAGE", one), OTHER.replace("IMAGE", one).replace("OTHER", other))
        made = Shuttle(fleet, ways, at=1)
        for _ in range(4):  # there and back twice: the first time makes what stays
            made.leave()
            made.boundaries[made.at] = made.goes()
            made.undisturbed[made.at] = made.on(FOUND)
        print(f"undisturbed: {[len(each) for each in made.boundaries.values()]} boundaries", flush=True)
        yield made


def test_a_second_run_costs_the_host_one_command_and_no_container(shuttle: Shuttle) -> None:
    before = shuttle.on("docker ps --no-trunc --format '{{.ID}} {{.Status}}'")
    assert shuttle.goes().count("before a command") == 1
    assert {line.split()[0] for line in shuttle.on("docker ps --no-trunc --format '{{.ID}}'").splitlines()} == {
        line.split()[0] for line in before.splitlines()
    }


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "cut off"])
def test_a_run_that_ends_at_a_boundary_is_made_whole_by_the_next(shuttle: Shuttle, cut: bool) -> None:
    """Every other time on the way to the one, and to the other."""
    lasting, count = shuttle.on(LASTING), min(map(len, shuttle.boundaries.values()))
    for number in spread(f"boundaries of a stack, {cut}", range(1, count + 1), AT_A_TIME):
        shuttle.leave()
        what = f"{'cut off' if cut else 'killed'} at boundary {number}, {shuttle.boundaries[shuttle.at][number - 1]}"
        print(f"stack {what}, on the way to {('the one', 'the other')[shuttle.at]}", flush=True)
        shuttle.dies(number, cut=cut)
        assert shuttle.on(ANSWERS).split()[0] == "always"
        shuttle.is_made_whole(what)
        assert shuttle.on(LASTING) == lasting, what
