"""llama-servers in containers of an image that their host builds of its release: the same servers, and back again with nothing left.

The tests are one story, in the order of the file. The base image is made of the host's own Debian packages, and comes from a
registry there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.serving.test_stacks import REGISTRY
from tests.share import turn

pytestmark = turn(3, of=5)

INVENTORY = """
fleet: contained
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {{time: elsewhere}}
      docker: {{}}
      llama_cpp: {{ui: false}}
      models:
      llama_server:
        api_key: true
        preset: {{threads: 1, threads-batch: 1}}
        models: [small]
        instances:
          chat: {{model: small, listen: "127.0.0.1:8081", memory_max: 1G, preset: {{ctx-size: {size}}}}}
{runtime}
models:
  small: {{source: tiny}}
"""
CONTAINER = "        runtime: container\n        base_image: {}\n"

PACKAGES = "base-files bash coreutils dash debianutils dpkg findutils grep libc-bin libc6 libgcc-s1 libgomp1 libstdc++6 mawk sed util-linux"

BASE = f"""set -e
systemctl restart docker-registry
for each in $(seq 300); do ! curl -fs http://127.0.0.1:5000/v2/ >/dev/null || break; sleep 0.2; done
needed=$(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \\
  {PACKAGES} | grep '^[a-z]' | sort -u)
{{ dpkg-query -L $needed 2>/dev/null; printf '%s\\n' /bin /lib /lib64 /sbin /etc/alternatives /usr/bin/awk /etc/alternatives/awk \\
  /var/lib/dpkg/status /etc/passwd /etc/group; }} | sort -u | while read -r each; do [ ! -e "$each" ] || echo "${{each#/}}"; done |
  tar -C / -c --no-recursion -T - | docker import - 127.0.0.1:5000/debian:13 >/dev/null
docker push -q 127.0.0.1:5000/debian:13 >/dev/null
docker inspect --format '{{{{index .RepoDigests 0}}}}' 127.0.0.1:5000/debian:13
docker rmi 127.0.0.1:5000/debian:13 >/dev/null
"""

KEYED = """. /etc/paddock/llama-server/api-key.env
printf 'header = "Authorization: Bearer %s"' "$LLAMA_API_KEY" | """
ASK = "curl -sS --max-time 60 -K - http://127.0.0.1:{}/v1/completions -d '{}'"
STARTED = "for each in $(docker ps -q); do docker inspect --format '{{.Name}} {{.State.StartedAt}}' $each; done"


@dataclass
class Box:
    fleet: LabFleet
    base: str = ""

    def write(self, *, contained: bool, size: int = 1024) -> None:
        self.fleet.write(INVENTORY.format(size=size, runtime=CONTAINER.format(self.base) if contained else ""))

    def paddock(self, verb: str, *arguments: str, code: int = 0) -> str:
        done = self.fleet.paddock(verb, "--lab", *arguments)
        print(f"$ paddock {verb} {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def on(self, script: str) -> str:
        return self.fleet.on("box", script)

    def answer(self, port: int) -> str:
        body = json.dumps({"model": "small", "prompt": "hello", "max_tokens": 8})
        text: str = json.loads(self.on(KEYED + ASK.format(port, body)))["choices"][0]["text"]
        return text

    def started(self) -> dict[str, str]:
        """Container by its name → when it was started."""
        return dict(line.removeprefix("/").split() for line in self.on(STARTED).splitlines())


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    native = INVENTORY.format(size=1024, runtime="")
    with lab_fleet("contained", tmp_path_factory.mktemp("contained"), native, ready=True) as fleet:
        made = Box(fleet)
        made.paddock("up", "--yes", "--no-verify")
        made.on(REGISTRY)
        made.base = made.on(BASE).strip()
        yield made


def test_one_word_runs_the_same_servers_in_containers(box: Box) -> None:
    assert "tiny" in box.answer(8081)
    box.write(contained=True)
    shown = box.paddock("plan", code=3)
    assert "  + localimage:paddock/llama.cpp" in shown
    assert "checks passed" in box.paddock("up", "--yes")
    assert box.started().keys() == {"paddock-llama-server", "paddock-llama-server-chat"}
    assert "tiny" in box.answer(8080) and "tiny" in box.answer(8081)
    assert box.on("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/v1/models").strip() == "401"


def test_the_next_run_changes_nothing(box: Box) -> None:
    before = box.started()
    assert " 0 changed" in box.paddock("up", "--yes", "--no-verify")
    assert box.started() == before


def test_a_container_has_what_its_server_needs_and_nothing_else(box: Box) -> None:
    asked = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.NetworkMode}} {{.HostConfig.Memory}}"
    said = box.on(f"docker inspect --format '{asked}' paddock-llama-server-chat").strip()
    can_limit = box.on("docker info --format '{{.MemoryLimit}}'").strip() == "true"
    assert said == f"true [ALL] none {1 << 30 if can_limit else 0}"
    key = box.on(". /etc/paddock/llama-server/api-key.env; echo $LLAMA_API_KEY").strip()
    known = box.on("docker inspect paddock-llama-server paddock-llama-server-chat $(docker images -q)")
    assert key and key not in known
    pid = box.on("docker inspect --format '{{.State.Pid}}' paddock-llama-server-chat").strip()
    assert box.on(f"stat -c %U /proc/{pid}").strip() == "llama-server"


def test_status_and_logs_know_it_as_they_know_a_native_one(box: Box) -> None:
    assert "llama-server-chat" in box.paddock("status")
    assert "listening on unix" in box.paddock("logs", "box/chat")


def test_a_changed_preset_starts_only_its_own_server_anew(box: Box) -> None:
    before = box.started()
    box.write(contained=True, size=2048)
    box.paddock("up", "--yes", "--no-verify")
    after = box.started()
    assert after["paddock-llama-server"] == before["paddock-llama-server"]
    assert after["paddock-llama-server-chat"] != before["paddock-llama-server-chat"]
    assert "tiny" in box.answer(8081)


def test_it_answers_on_while_the_engine_is_restarted_and_can_be_stopped_afterwards(box: Box) -> None:
    before = box.started()
    box.on("systemctl restart docker")
    assert "tiny" in box.answer(8081)
    assert box.started() == before
    assert box.on("systemctl is-active llama-server-chat").strip() == "active"
    box.paddock("restart", "box/chat", "--yes")
    assert box.started()["paddock-llama-server-chat"] != before["paddock-llama-server-chat"]
    assert "tiny" in box.answer(8081)


def test_one_that_is_killed_is_started_again(box: Box) -> None:
    before = box.started()["paddock-llama-server-chat"]
    box.on("docker kill paddock-llama-server-chat >/dev/null")
    box.on('for each in $(seq 100); do [ -z "$(docker ps -q -f name=paddock-llama-server-chat)" ] || break; sleep 0.2; done')
    box.on("for each in $(seq 100); do [ ! -e /run/llama-server/llama-server-chat/open.sock ] || break; sleep 0.2; done")
    assert box.started()["paddock-llama-server-chat"] != before
    assert "tiny" in box.answer(8081)
    box.on("systemctl reset-failed llama-server-chat")


def test_a_base_that_lacks_what_a_release_needs_is_told_and_the_old_one_serves_on(box: Box) -> None:
    empty = "mkdir -p /root/none && tar -C /root/none -c . | docker import - 127.0.0.1:5000/none:1 >/dev/null"
    pushed = "docker push -q 127.0.0.1:5000/none:1 >/dev/null; docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/none:1"
    good, before = box.base, box.started()
    box.base = box.on(f"{empty}; {pushed}; docker rmi 127.0.0.1:5000/none:1 >/dev/null").strip()
    box.write(contained=True, size=2048)
    said = box.paddock("up", "--yes", "--no-verify", code=1)
    assert "localimage:paddock/llama.cpp: cannot be built: " in said and "$lacks" not in said
    assert box.started() == before and "tiny" in box.answer(8081)
    box.base = good
    box.write(contained=True, size=2048)
    box.paddock("up", "--yes", "--no-verify")
    assert box.started() == before


def test_back_to_native_leaves_nothing_behind(box: Box) -> None:
    box.write(contained=False, size=2048)
    assert "checks passed" in box.paddock("up", "--yes")
    assert "tiny" in box.answer(8080) and "tiny" in box.answer(8081)
    assert box.on("docker ps -aq; docker images -aq").split() == []
    assert " 0 changed" in box.paddock("up", "--yes", "--no-verify")
