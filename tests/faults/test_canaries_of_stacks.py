"""The secrets of a stack as canaries: twelve, half of them given as files and half as variables. While Paddock works with them, and after, each is
in its own places and nowhere else. What an image can read in a file no `docker inspect` shows.

Argument lists and environments are sampled all the while. The role that declares the stack is in tests/serving/crate.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control.state.fleet import FleetState
from control.state.secrets import Vault
from tests.extended import add_name, extended
from tests.faults.sampling import sampled
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

NAME = "stackcanaries"
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
          one: {image: "IMAGE", says: first, listen: "127.0.0.1:8071", keys: {file1: file, file2: file, both: file, variable1: variable}}
          two: {image: "IMAGE", says: second, keys: {file3: file, file4: file, both: file, variable2: variable, variable3: variable}}
          three: {image: "IMAGE", says: third, keys: {file5: file, variable4: variable, variable5: variable, variable6: variable}}
"""
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

OWN = re.compile(r"/etc/paddock/stacks/crate/[a-z0-9.]+|/var/lib/paddock/stage\.[^/]+/.+")
"""A canary's own places on the host: the second is what a run that was killed has not got to use, and gone with the next run."""

DOCKERS = re.compile(
    r"/var/lib/docker/containers/[0-9a-f]+/config\.v2\.json|/var/lib/containerd/[a-z0-9.]+/meta\.db"
    r"|/run/(docker/)?containerd/.+/config\.json|/tmp/runc-process[0-9]+"
)
"""Where Docker itself keeps the variables of a container, in files of root's. containerd's database may have them after the container has
gone: docs/stacks.md."""

SEARCHED = "/etc /home /root /tmp /var /run /opt /srv /dev/shm /usr/local"


@dataclass
class Story:
    """`said` is what the verbs have printed, `known` each secret that there was, by its name and how often it was replaced."""

    fleet: LabFleet
    image: str
    said: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        return self.fleet.host("box").container

    def write(self, says: str = "first") -> None:
        self.fleet.write(FLEET + CRATES.replace("IMAGE", self.image).replace("first", says))

    def paddock(self, *words: str, code: int = 0) -> str:
        done = self.fleet.paddock(*words, "--lab")
        text = done.stdout + done.stderr
        print(f"$ paddock {' '.join(words)}: {done.returncode}\n{text}", flush=True)
        assert done.returncode == code, text
        self.said.append(text)
        self.learn()
        return text

    def learn(self) -> None:
        vault = Vault(FleetState.of(self.fleet.inventory, f"{NAME}-lab"))
        self.known |= {f"{name} ({vault.get(name)[-4:]})": vault.get(name) for name in vault.names()}

    def containers(self) -> dict[str, str]:
        said = inside(self.container, "docker ps --no-trunc --format '{{.Label \"com.docker.compose.service\"}} {{.ID}}'")
        return dict(line.split() for line in said.splitlines())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    product = extended(tmp_path_factory.mktemp("crate") / "product")
    role = Path(__file__).parents[1] / "serving" / "crate"
    shutil.copytree(role, product.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(product.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), FLEET) as fleet:
        fleet.product = product.root
        fleet.up()
        yield Story(fleet, fleet.on("box", IMAGE).strip())


def test_canaries_are_found_in_their_own_places_and_nowhere_else(story: Story, tmp_path: Path) -> None:
    (tmp_path / "begun").touch()
    with sampled(tmp_path) as seen:
        work(story)
    assert len(story.known) >= 14, sorted(story.known)
    assert all(re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", canary) for canary in story.known.values()), "fewer than 256 random bits"
    wrong = [
        *in_processes(seen, story),
        *(f"{name} was printed: {text[:80]!r}" for text in story.said for name, canary in story.known.items() if canary in text),
        *in_files_of_the_host(story),
        *in_what_docker_shows(story),
        *in_journals(story),
        *in_files_here(story, tmp_path),
    ]
    assert not wrong, "\n".join(wrong)


def work(story: Story) -> None:
    """All that is done with the secrets."""
    story.write()
    story.paddock("up", "--yes")
    story.paddock("plan", "--json")
    story.paddock("verify", "--deep")
    for verb in ("status", "logs", "restart"):
        story.paddock(verb, *(("--json",) if verb == "status" else ("crate",)))
    story.write(says="changed")
    story.paddock("up", "--yes", "--json", "--no-verify")
    before = story.containers()
    for name, uses in (("crate-both", {"one", "two"}), ("crate-variable4", {"three"})):
        story.paddock("secrets", "rotate", name, "--yes")
        story.paddock("up", "--yes", "--no-verify")
        after = story.containers()
        assert {each for each in before if after[each] != before[each]} == uses, name
        before = after
    story.paddock("verify")
    inside(story.container, "rm /etc/paddock/stacks/crate/file1 /etc/paddock/stacks/crate/two.env")
    run = story.fleet.start("up", "--lab", "--yes", "--no-verify")
    assert run.stdout
    for line in run.stdout:
        if "crate: files" in line:
            break
    run.kill()
    story.said.append(line + run.communicate(timeout=60)[0])
    story.paddock("up", "--yes")


def in_processes(seen: list[tuple[str, str, str, str]], story: Story) -> Iterator[str]:
    assert any(program == "dockerd" for _, program, _, _ in seen), "the sampling saw nothing of the host"
    for what, program, unit, text in seen:
        for name, canary in story.known.items():
            own = what == "environment" and text.startswith("VARIABLE") and (unit.startswith("docker-") or "crate-variable" in name)
            if canary in text and not own:
                yield f"{name} in the {what} of {program} of {unit}: {text.replace(canary, '<CANARY>')[:300]!r}"


def in_files_of_the_host(story: Story, least: int = 12) -> Iterator[str]:
    own = 0
    for name, canary in story.known.items():
        look = f"grep -rlaF --devices=skip -e {shlex.quote(canary)} {SEARCHED} 2>/dev/null || true"
        for path in filter(None, inside(story.container, look).split("\n")):
            opened = inside(story.container, f"! runuser -u nobody -- cat {shlex.quote(path)} >/dev/null 2>&1 || echo yes").strip()
            if opened or not (OWN.fullmatch(path) or (DOCKERS.fullmatch(path) and "variable" in name)):
                yield f"{name} on the host in {path}{', which everybody reads' if opened else ''}"
            own += 1
    assert own >= least, "the search finds not even what has to be there"


def in_what_docker_shows(story: Story) -> Iterator[str]:
    shown = inside(
        story.container,
        "docker inspect $(docker ps -aq) $(docker image ls -q); docker history --no-trunc $(docker image ls -q); docker compose ls;"
        " docker logs paddock-crate-one-1 2>&1; docker events --since 2h --until 0s",
    )
    assert "VARIABLE1=" in shown
    yield from (f"{name} is shown by Docker" for name, canary in story.known.items() if canary in shown and "variable" not in name)


def in_journals(story: Story) -> Iterator[str]:
    said = inside(story.container, "journalctl --no-pager --quiet --all --output=json; dmesg 2>/dev/null || true")
    assert "dockerd" in said
    yield from (f"{name} in the host's journal" for name, canary in story.known.items() if canary in said)


def in_files_here(story: Story, begun: Path) -> Iterator[str]:
    """In what is there since, here: the state and its git, what is temporary, and caches."""
    newer = ["find", str(story.fleet.directory), "/tmp", "/var/tmp", "/dev/shm", str(Path.home() / ".cache" / "paddock"), "-xdev"]
    newer += ["-newer", str(begun / "begun"), "-type", "f", "-size", "-20M"]
    paths = {Path(each) for each in subprocess.run(newer, capture_output=True, text=True).stdout.split("\n") if each}
    paths |= {each for each in story.fleet.state.rglob("*") if each.is_file()}
    assert story.fleet.state / "secrets" / "crate-file1.age" in paths
    for path in sorted(paths):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # somebody else's, and gone
        yield from (f"{name} here in {path}" for name, canary in story.known.items() if canary.encode() in content)


def test_nothing_of_them_stays_on_a_host_that_is_torn_down(story: Story) -> None:
    story.paddock("teardown", "--yes", "--data")
    assert list(in_files_of_the_host(story, least=0)) == []
    assert inside(story.container, "ls -A /etc/paddock /var/lib/paddock 2>/dev/null || true") == ""
