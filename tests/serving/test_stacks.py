"""Stacks on a lab host with an engine of its own: put, shown, changed container by container, refused with what is wrong, taken away.

The role that declares one is in tests/serving/crate; its images come from a registry on the host itself, by their digests.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.extended import add_name, extended
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

BARE = """
fleet: stacks
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
"""
ENGINE = f"{BARE}      docker: {{}}\n"

REGISTRY = """set -e
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/docker/registry
cat >/etc/docker/registry/config.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: "127.0.0.1:5000"}
END
apt-get -qq install -y --no-install-recommends -o Dpkg::Options::=--force-confold busybox-static docker-registry >/dev/null
"""
"""The distribution's own asks for a password."""

IMAGE = """set -e
systemctl restart docker-registry
for each in $(seq 300); do ! curl -fs http://127.0.0.1:5000/v2/ >/dev/null || break; sleep 0.2; done
mkdir -p /root/crate/bin /root/crate/www /root/crate/data
cp /bin/busybox /root/crate/bin/busybox
for each in sh sleep; do ln -sf busybox /root/crate/bin/$each; done
tar -C /root/crate -c . | docker import - 127.0.0.1:5000/crate:1 >/dev/null
docker push -q 127.0.0.1:5000/crate:1 >/dev/null
docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/crate:1
docker rmi 127.0.0.1:5000/crate:1 >/dev/null
"""
"""Of one program, and had from the registry: its digest is the registry's."""

CRATES = """      crate:
        crates:
          one: {{image: "{image}", says: first, listen: "127.0.0.1:8071"}}
          two: {{image: "{image}", says: {says}}}
"""


@dataclass
class Stacks:
    fleet: LabFleet
    image: str = ""

    def write(self, says: str = "second", more: str = "") -> None:
        self.fleet.write(ENGINE + CRATES.format(image=self.image, says=says) + more)

    def paddock(self, verb: str, *arguments: str, code: int = 0) -> str:
        done = self.fleet.paddock(verb, "--lab", *arguments)
        print(f"$ paddock {verb} {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, code: int = 0) -> str:
        return self.paddock("up", "--yes", "--no-verify", code=code)

    def ids(self) -> dict[str, str]:
        """Container by its name in the stack."""
        said = self.on("docker ps -a --format '{{.Label \"com.docker.compose.service\"}} {{.ID}}'")
        return dict(line.split() for line in said.splitlines())

    def on(self, script: str) -> str:
        return self.fleet.on("box", script)

    def answers(self) -> str:
        return self.on("curl -fsS http://127.0.0.1:8071/index.html").strip()


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    product = extended(tmp_path_factory.mktemp("crate") / "product")
    shutil.copytree(Path(__file__).with_name("crate"), product.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(product.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    with lab_fleet("stacks", tmp_path_factory.mktemp("stacks"), ENGINE) as fleet:
        fleet.product = product.root
        made = Stacks(fleet)
        assert "checks passed" in made.paddock("up", "--yes")
        made.on(REGISTRY)
        made.image = made.on(IMAGE).strip()
        yield made


def test_a_stack_is_put_verified_and_left_alone_by_the_next_run(stacks: Stacks) -> None:
    stacks.write()
    shown = stacks.paddock("plan", code=3)
    assert "  + stack:crate" in shown and f"  + image:{stacks.image}" in shown
    assert "checks passed" in stacks.paddock("up", "--yes")
    assert stacks.answers() == "first"
    before = stacks.ids()
    assert " 0 changed" in stacks.up()
    assert stacks.ids() == before
    assert re.search(r"stack:crate +2 of 2 running +as declared", stacks.paddock("status"))


def test_a_container_gets_what_it_asked_for_and_nothing_else(stacks: Stacks) -> None:
    asked = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.LogConfig.Type}}"
    said = stacks.on(f"docker inspect --format '{asked} {{{{.Config.Env}}}}' paddock-crate-one-1").strip()
    assert said == "true [ALL] [no-new-privileges:true] local [PRICE=$5]"
    assert stacks.on("ss -Hltn sport = :8071").split()[3] == "127.0.0.1:8071"


def test_what_changes_is_made_anew_and_the_rest_goes_on(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    before = stacks.ids()
    stacks.write(says="third")
    assert "  ~ stack:crate" in stacks.paddock("plan", code=3)
    stacks.up()
    after = stacks.ids()
    assert after["one"] == before["one"] and after["two"] != before["two"]
    assert stacks.on("docker exec paddock-crate-two-1 /bin/busybox cat /www/index.html").strip() == "third"
    stacks.write()
    stacks.up()


def test_containers_outlive_a_restart_of_the_engine(stacks: Stacks) -> None:
    before = stacks.ids()
    started = stacks.on("docker inspect --format '{{.State.StartedAt}}' paddock-crate-one-1")
    stacks.on("systemctl restart docker")
    assert stacks.ids() == before
    assert stacks.on("docker inspect --format '{{.State.StartedAt}}' paddock-crate-one-1") == started
    assert stacks.answers() == "first"
    said = stacks.up()
    assert " 0 changed" in said or "starting → running, healthy" in said
    assert stacks.ids() == before
    assert " 0 changed" in stacks.up()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('          bad: {image: "127.0.0.1:5000/crate@sha256:' + "0" * 64 + '"}\n', "its registry has no image of this digest any more"),
        ('          bad: {image: "IMAGE", command: ["/bin/busybox", "false"]}\n', "bad is "),
        ('          bad: {image: "IMAGE", command: ["/nothing"]}\n', "/nothing"),
        (
            '          bad: {image: "IMAGE", listen: "127.0.0.1:8079"}\n',
            "port 8079, which it publishes, is held by the container elsew",
        ),
    ],
    ids=["a digest that the registry has lost", "a container that ends", "a program that is not there", "a port that somebody has"],
)
def test_what_cannot_be_is_told_and_what_ran_before_runs_on(stacks: Stacks, more: str, words: str) -> None:
    stacks.write()
    stacks.up()
    before = stacks.ids()
    stacks.on(f"docker run -d --name elsewhere -p 127.0.0.1:8079:8080 {stacks.image} /bin/busybox sleep 600 >/dev/null")
    try:
        stacks.write(says="fourth", more=more.replace("IMAGE", stacks.image))
        said = stacks.up(code=1)
    finally:
        stacks.on("docker rm -f elsewhere >/dev/null")
    assert words in said and "Traceback" not in said
    assert stacks.answers() == "first"
    assert stacks.ids()["one"] == before["one"]
    assert stacks.on("docker exec paddock-crate-two-1 /bin/busybox cat /www/index.html").strip() == "second"
    stacks.write()
    stacks.up()
    assert " 0 changed" in stacks.up()


def test_a_container_that_restarts_for_ever_is_told_with_its_last_words(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    before = stacks.ids()
    stacks.write(
        more='          bad: {image: "IMAGE", command: ["/bin/sh", "-c", "echo no luck; exit 3"]}\n'.replace("IMAGE", stacks.image)
    )
    said = stacks.up(code=1)
    assert "box: stack:crate: does not come up: bad is restarted again and again" in said and "no luck" in said
    assert stacks.answers() == "first" and stacks.ids()["one"] == before["one"]
    stacks.write()
    stacks.up()


def test_a_volume_of_somebody_else_is_refused_and_outlives_a_teardown_of_data(stacks: Stacks) -> None:
    stacks.fleet.write(ENGINE)
    stacks.up()
    stacks.on("docker volume rm paddock-crate-data >/dev/null; docker volume create paddock-crate-data >/dev/null")
    stacks.write()
    said = stacks.up(code=1)
    assert "box: volume:paddock-crate-data: the volume of this name is of somebody else" in said
    assert stacks.ids() == {}
    stacks.fleet.write(ENGINE)
    stacks.up()
    assert stacks.on("docker volume ls -q").split() == ["paddock-crate-data"]
    stacks.on("docker volume rm paddock-crate-data >/dev/null")
    stacks.on("docker volume create --label paddock.volume=other paddock-crate-data >/dev/null")
    stacks.write()
    assert "the volume of this name is of the stack other" in stacks.up(code=1)
    stacks.on("docker volume rm paddock-crate-data >/dev/null")
    stacks.up()


def test_a_full_data_root_is_told_and_what_ran_runs_on(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    before = stacks.ids()
    stacks.on("docker pull -q " + stacks.image + " >/dev/null; head -c 40M /dev/urandom >/root/crate/www/big")
    big = stacks.on(IMAGE.replace("crate:1", "big:1")).strip()
    stacks.on("mount -t tmpfs -o size=4m none /var/lib/docker/tmp")
    try:
        stacks.write(more=f'          more: {{image: "{big}"}}\n')
        assert "no room is left in /var/lib/docker" in stacks.up(code=1)
    finally:
        stacks.on("umount /var/lib/docker/tmp; rm /root/crate/www/big")
    assert stacks.ids() == before and stacks.answers() == "first"
    stacks.write()
    stacks.up()


def test_a_stack_is_stopped_started_restarted_and_read_by_its_name(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    before = stacks.ids()
    assert "box/crate: stopped" in stacks.paddock("stop", "box/crate")
    assert re.search(r"stack:crate +stopped +differs: ", stacks.paddock("status", code=3))
    assert "box/crate: started" in stacks.paddock("start", "crate")
    assert stacks.answers() == "first" and stacks.ids() == before
    stacks.on("docker exec paddock-crate-two-1 /bin/busybox kill 1 2>/dev/null || true")
    assert "box/crate/one: restarted" in stacks.paddock("restart", "crate/one")
    stacks.paddock("restart", "stack:crate")
    assert stacks.ids() == before
    assert re.search(r"stack:crate +2 of 2 running +as declared", stacks.paddock("status"))
    stacks.on("docker exec paddock-crate-one-1 /bin/sh -c 'echo it said this >/proc/1/fd/1'")
    assert "it said this" in stacks.paddock("logs", "box/crate/one", "--since", "1 hour ago")
    assert "box/crate/one  it said this" in stacks.paddock("logs", "crate", "-n", "5")
    assert "is no time" in stacks.paddock("logs", "crate", "--since", "sometime", code=1)
    assert "no llama-server and no stack has this name" in stacks.paddock("stop", "crate/three", code=2)
    stacks.paddock("stop", "crate/two")
    assert re.search(r"stack:crate +1 of 2 running +differs: two", stacks.paddock("status", code=3))
    stacks.up()
    assert stacks.ids() == before
    assert " 0 changed" in stacks.up()


def test_a_project_of_somebody_else_is_not_touched(stacks: Stacks) -> None:
    stacks.write()
    label = "--label com.docker.compose.project=paddock-crate --label com.docker.compose.service=theirs"
    stacks.on(f"docker run -d --name theirs {label} {stacks.image} /bin/busybox sleep 600 >/dev/null")
    try:
        stacks.write(says="fifth")
        assert "somebody else's Compose project is called paddock-crate (its container theirs)" in stacks.up(code=1)
        assert stacks.on("docker inspect --format '{{.State.Status}}' theirs").strip() == "running"
    finally:
        stacks.on("docker rm -f theirs >/dev/null")
    stacks.write()
    stacks.up()


def test_what_leaves_the_inventory_leaves_the_host_and_data_stay(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    stacks.on("docker run --rm -v paddock-crate-data:/data " + stacks.image + " /bin/busybox touch /data/kept")
    stacks.fleet.write(ENGINE)
    stacks.up()
    assert stacks.ids() == {}
    assert stacks.on("docker volume ls -q").split() == ["paddock-crate-data"]
    assert stacks.on("docker image ls -q").split() == []
    assert stacks.on("ls /etc/paddock").split().count("stacks") == 0
    stacks.write()
    stacks.up()
    assert stacks.on("docker exec paddock-crate-one-1 /bin/busybox ls /data").strip() == "kept"


def test_a_teardown_leaves_the_engine_as_it_was_found(stacks: Stacks) -> None:
    stacks.write()
    stacks.up()
    stacks.on("apt-get -qq purge -y docker-registry >/dev/null; rm -rf /etc/docker/registry")
    stacks.paddock("teardown", "--yes", "--data")
    assert stacks.on("command -v dockerd docker || true") == ""
    assert stacks.on("ls -d /etc/docker /var/lib/docker/volumes/paddock-crate-data 2>/dev/null || true") == ""
