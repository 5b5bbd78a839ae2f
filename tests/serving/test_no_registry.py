"""A host without a registry, with an engine of its operator: the control machine brings images, and a teardown leaves the engine as it was.

The tests are one story, in the order of the file. The host is deployed as a real machine is: a lab gives it an engine of its own.
The role that declares the stack is in tests/serving/crate.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.lab_host import ssh_command
from tests.extended import add_name, extended
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

BARE = """
fleet: noway
domain: home.example
hosts:
  box:
    PLACE
    roles:
      base: {time: elsewhere}
"""
STORE = "  store: {address: 192.0.2.11, roles: {base: {time: elsewhere}}}\n"
CRATE = """      docker: {engine: installed, images: artifacts}
      crate:
        crates:
          one: {image: "127.0.0.1:PORT/crate:1@DIGEST", says: first, listen: "127.0.0.1:8071"}
          two: {image: "127.0.0.1:PORT/crate:1@DIGEST", says: second}
"""

REGISTRY = """set -e
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends busybox-static docker.io docker-cli docker-registry >/dev/null
mkdir -p /etc/docker/registry /root/crate/bin /root/crate/www /root/crate/data
cat >/etc/docker/registry/config.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: "127.0.0.1:5000"}
END
systemctl restart docker docker-registry
for each in $(seq 300); do ! curl -fs http://127.0.0.1:5000/v2/ >/dev/null || break; sleep 0.2; done
cp /bin/busybox /root/crate/bin/busybox
tar -C /root/crate -c . | docker import - 127.0.0.1:5000/crate:1 >/dev/null
docker push -q 127.0.0.1:5000/crate:1 >/dev/null
docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/crate:1 | sed 's/.*@//'
"""

ENGINE = """set -e
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends busybox-static docker.io docker-cli docker-compose >/dev/null
mkdir -p /etc/docker /root/own/bin
printf '{"log-driver": "json-file", "labels": ["of=ann"]}\\n' >/etc/docker/daemon.json
systemctl restart docker
cp /bin/busybox /root/own/bin/busybox
tar -C /root/own -c . | docker import - ann/own:1 >/dev/null
docker network create ann >/dev/null
docker run -d --name own --network ann -v own:/data --restart always ann/own:1 /bin/busybox sleep 100000 >/dev/null
"""
"""The operator's own, with a container that runs."""

CUT = "ip route del default; ip route add unreachable {store}; ! getent hosts deb.debian.org"

FOUND = """docker ps -a --no-trunc --format 'container {{.Names}} {{.ID}} {{.State}}' | sort
docker image ls --no-trunc --format 'image {{.Repository}}:{{.Tag}} {{.ID}}' | sort
docker volume ls --format 'volume {{.Name}}' | sort
docker network ls --format 'network {{.Name}} {{.ID}}' | sort
cat /etc/docker/daemon.json; ls -A /etc/docker; ls -d /etc/systemd/system/docker* 2>/dev/null || true
docker inspect --format '{{.State.StartedAt}}' own; systemctl show -P InvocationID docker
dpkg-query -W 'docker*' 'containerd*' | sort"""
"""All of the engine that its operator would notice."""


@dataclass
class Story:
    fleet: LabFleet
    port: int
    place: str = ""
    digest: str = ""
    before: str = ""

    def paddock(self, *words: str, code: int = 0) -> str:
        done = self.fleet.paddock(*words)
        print(f"$ paddock {' '.join(words)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def write(self, digest: str = "", says: str = "first") -> None:
        crate = CRATE.replace("PORT", str(self.port)).replace("DIGEST", digest or self.digest).replace("first", says)
        self.fleet.write(BARE.replace("PLACE", self.place) + crate)

    def on(self, script: str) -> str:
        return self.fleet.on("box", script)


@contextmanager
def registry(fleet: LabFleet) -> Iterator[int]:
    """The port of this machine's loopback at which the registry of `store` answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = ssh_command(fleet.host("store"))
    with subprocess.Popen(
        [command[0], "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:5000", *command[1:]], stdin=subprocess.DEVNULL
    ) as forwarding:
        for _ in range(100):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        try:
            yield port
        finally:
            forwarding.terminate()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    product = extended(tmp_path_factory.mktemp("crate") / "product")
    role = Path(__file__).with_name("crate")
    shutil.copytree(role, product.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(product.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    with lab_fleet("noway", tmp_path_factory.mktemp("noway"), BARE.replace("PLACE", "address: 192.0.2.10") + STORE) as fleet:
        fleet.product = product.root
        box = fleet.host("box")
        place = f'address: {box.address}\n    ssh_key: "{box.ssh_key}"\n    host_key: "{box.host_key}"'
        fleet.write(BARE.replace("PLACE", place))
        done = fleet.paddock("up", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        digest = fleet.on("store", REGISTRY).strip()
        fleet.on("box", ENGINE)
        fleet.on("box", CUT.format(store=fleet.host("store").address))
        with registry(fleet) as port:
            yield Story(fleet, port, place, digest, fleet.on("box", FOUND))


def test_the_control_machine_brings_the_images_and_the_stack_runs(story: Story) -> None:
    story.write()
    assert "crate" in story.paddock("artifacts", "pull")
    assert "checks passed" in story.paddock("up", "--yes")
    assert story.on("curl -fsS http://127.0.0.1:8071/index.html") == "first\n"
    assert " 0 changed" in story.paddock("up", "--yes", "--no-verify")


def test_the_operators_own_runs_on(story: Story) -> None:
    assert set(story.before.splitlines()) <= set(story.on(FOUND).splitlines())


def test_an_image_that_the_registry_has_lost_is_told_and_the_stack_serves_on(story: Story) -> None:
    story.write(digest="sha256:" + "0" * 64, says="other")
    said = story.paddock("up", "--yes", "--no-verify", code=1)
    assert "crate" in said and "0" * 12 in said
    assert story.on("curl -fsS http://127.0.0.1:8071/index.html") == "first\n"


def test_an_image_without_a_digest_is_refused_with_what_pins_it(story: Story) -> None:
    story.write()
    story.fleet.inventory.write_text(story.fleet.inventory.read_text().replace(f"@{story.digest}", ""))
    said = story.paddock("check", code=2)
    assert "crate:1" in said and "paddock artifacts pull --lock" in said
    story.paddock("artifacts", "pull", "--lock")
    assert story.fleet.inventory.read_text().count(story.digest) == 2


def test_a_changed_text_makes_one_container_anew_without_a_registry(story: Story) -> None:
    ids = story.on("docker ps --format '{{.Names}} {{.ID}}' | sort")
    story.write(says="third")
    story.paddock("up", "--yes", "--no-verify")
    assert story.on("curl -fsS http://127.0.0.1:8071/index.html") == "third\n"
    assert len(set(ids.splitlines()) - set(story.on("docker ps --format '{{.Names}} {{.ID}}' | sort").splitlines())) == 1


def test_a_teardown_leaves_the_engine_as_it_was_found(story: Story) -> None:
    story.paddock("teardown", "--yes", "--data")
    assert story.on(FOUND) == story.before
    assert story.on("ls -A /etc/paddock /var/lib/paddock 2>/dev/null || true") == ""
