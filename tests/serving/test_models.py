"""Models on their way: cut off, resumed, corrupted, handed on, in parts, private, pruned. Real hosts, and a real server that can fail."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from lab.lab_host import LabHost
from tests.lab.snapshot import inside
from tests.lab_fleet import ROOT, LabFleet, lab_fleet
from tests.model_server import COMMIT, ModelServer, gguf, model_server
from tests.share import turn

pytestmark = turn(1, of=5)

NAME = "moles"
HOSTS = ("one", "two")
DIRECTORY = "/var/lib/paddock/models"
MIB = 1 << 20
TOKEN = "hf_NobodyMayReadThis"
REPOSITORY = "moles/Tiny-GGUF"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Moles:
    """Two hosts, of which `one` compiles for both, and who they take models from; `models` is what the inventory says of them."""

    lab: LabFleet
    hosts: Mapping[str, LabHost]
    server: ModelServer
    here: str
    """This machine, as its hosts reach it."""
    models: dict[str, Any] = field(default_factory=dict)

    def write(self, *, peers: bool = False, **serving: list[str]) -> None:
        """The inventory, in which the named hosts serve these models, and each the tiny one."""
        hosts = {}
        for name, host in self.hosts.items():
            roles = {
                "base": {"time": "elsewhere"},
                "llama_cpp": {"ui": False, "builder": None if name == "one" else "one"},
                "models": {"peers": peers},
                "llama_server": {"models": ["tiny", *serving.get(name, [])]},
            }
            hosts[name] = {"address": host.address, "ssh_key": str(host.ssh_key), "host_key": host.host_key, "roles": roles}
        preset = {"ctx-size": 512}
        models = {name: {"source": source, "preset": preset} for name, source in {"tiny": "tiny", **self.models}.items()}
        self.lab.write(json.dumps({"fleet": self.lab.name, "domain": "home.example", "hosts": hosts, "models": models}))  # JSON is YAML

    def offers(self, name: str, content: bytes, **wrong: Any) -> None:
        """A model that the server has."""
        self.server.files[f"/{name}.gguf"] = content
        source = {"url": f"http://{self.here}:{self.server.port}/{name}.gguf", "sha256": sha256(content), "size": len(content)}
        self.models[name] = {**source, **wrong}

    def up(self, *, fails: bool = False) -> str:
        return self.paddock("up", "--yes", "--no-verify", fails=fails)

    def pull(self, *arguments: str, fails: bool = False) -> str:
        return self.paddock("models", "pull", *arguments, fails=fails)

    def paddock(self, *arguments: str, fails: bool = False) -> str:
        done = self.lab.paddock(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == (1 if fails else 0) and "Traceback" not in said, said
        return said

    def keep(self, secret: str, value: str) -> None:
        command = self.lab.command("secrets", "set", secret)
        subprocess.run(command, cwd=ROOT, env=self.lab.env, input=value, capture_output=True, text=True, check=True)

    def inside(self, host: str, script: str) -> str:
        return inside(self.hosts[host].container, script)

    def lies(self, host: str = "one") -> set[str]:
        """The files of models on the host, without the tiny one's."""
        found = self.inside(host, f"cd {DIRECTORY} && find . -type f ! -name 'tiny.gguf*' -printf '%P\\n'").split()
        return set(found)

    def digest(self, path: str, host: str = "one") -> str:
        return self.inside(host, f"sha256sum <{path}").split()[0]

    def served(self, host: str = "one") -> set[str]:
        return set(re.findall(r'"id":"([^"]+)"', self.inside(host, "curl -sS http://127.0.0.1:8080/models")))

    def answer(self, model: str, host: str = "one") -> str:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8})
        said = self.inside(host, f"curl -sS --max-time 60 http://127.0.0.1:8080/v1/chat/completions -d '{body}'")
        return str(json.loads(said)["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moles]:
    directory = tmp_path_factory.mktemp(NAME)
    bare = {name: {"address": f"192.0.2.{number}", "roles": {"base": {}}} for number, name in enumerate(HOSTS, 1)}
    with (
        model_server() as server,
        lab_fleet(NAME, directory, json.dumps({"fleet": NAME, "domain": "home.example", "hosts": bare}), ready=True) as lab,
    ):
        hosts = {name: lab.host(name) for name in HOSTS}
        moles = Moles(lab, hosts, server, str(next(ip_network(hosts["one"].network).hosts())))
        lab.environment["HF_ENDPOINT"] = f"http://{moles.here}:{server.port}"
        moles.write()
        moles.up()
        yield moles


@pytest.fixture
def moles(shared: Moles) -> Moles:
    """Both hosts with the tiny model alone."""
    shared.server.forget()
    shared.models.clear()
    shared.write()
    shared.up()
    shared.paddock("models", "prune", "--yes")
    assert shared.lies("one") == shared.lies("two") == set()
    return shared


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real model of 20 MiB."""
    return gguf(tmp_path_factory.mktemp("big"), "big", 20 * MIB)[0]


def test_a_download_that_is_cut_three_times_goes_on_and_is_served(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.cuts["/big.gguf"] = [5 * MIB, 7 * MIB, 3 * MIB]
    moles.write(one=["big"])
    moles.up()
    assert [each.begins for each in moles.server.asked] == [0, 5 * MIB, 12 * MIB, 15 * MIB]
    assert moles.lies() == {"big.gguf", "big.gguf.sha256"}
    assert moles.digest(f"{DIRECTORY}/big.gguf") == sha256(big)
    assert "tiny model" in moles.answer("big")


def test_what_came_before_the_server_went_away_is_kept_out_of_sight_and_the_next_run_goes_on_from_there(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.cuts["/big.gguf"] = [5 * MIB, 0, 0, 0, 0, 0]
    moles.write(one=["big"])
    said = moles.up(fails=True)
    assert "what came is kept, the next run goes on from there" in said
    assert moles.lies() == {"big.gguf.part"}
    assert moles.served() == {"tiny"}
    moles.server.forget()
    moles.up()
    assert [each.begins for each in moles.server.asked] == [5 * MIB]
    assert moles.digest(f"{DIRECTORY}/big.gguf") == sha256(big)


def test_a_server_that_cannot_go_on_in_the_middle_is_asked_for_all_of_it(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.cuts["/big.gguf"] = [5 * MIB]
    moles.server.ranges = False
    moles.write(one=["big"])
    moles.pull()
    assert moles.digest(f"{DIRECTORY}/big.gguf") == sha256(big)


def test_a_corrupted_model_is_put_aside_and_never_served(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.files["/big.gguf"] = big[:-1] + bytes([big[-1] ^ 1])
    moles.write(one=["big"])
    said = moles.up(fails=True)
    found = sha256(moles.server.files["/big.gguf"])
    assert f"one: model:{DIRECTORY}/big.gguf: its sha256 is {found}, and is to be {sha256(big)}; what came is kept as" in said
    assert moles.lies() == {"big.gguf.wrong"}
    assert moles.served() == {"tiny"}
    moles.server.files["/big.gguf"] = big
    moles.up()
    assert moles.digest(f"{DIRECTORY}/big.gguf") == sha256(big)
    assert "big" in moles.served()


def test_a_server_that_sends_more_than_a_model_has_is_cut_off(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.files["/big.gguf"] = big + bytes(4 * MIB)
    moles.write(one=["big"])
    said = moles.up(fails=True)
    assert (
        f"could not be fetched from http://{moles.here}:{moles.server.port}/big.gguf: sends more than the 21 MiB that it is to have" in said
    )
    assert moles.lies() == set()
    assert moles.served() == {"tiny"}


def test_a_second_host_takes_it_from_the_first(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.write(peers=True, one=["big"])
    moles.pull()
    moles.server.forget()
    moles.write(peers=True, one=["big"], two=["big"])
    moles.up()
    assert moles.server.asked == []
    assert moles.digest(f"{DIRECTORY}/big.gguf", "two") == sha256(big)
    assert "tiny model" in moles.answer("big", "two")
    assert moles.inside("one", "ls -d /run/paddock/offer 2>/dev/null; systemctl is-active paddock-offer || true").split() == ["inactive"]


def test_a_host_without_peers_gives_nothing(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.write(one=["big"])
    moles.pull()
    moles.write(one=["big"], two=["big"])
    moles.pull()
    assert len(moles.server.asked) == 2


def test_where_the_first_host_does_not_answer_it_comes_from_its_source(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.write(peers=True, one=["big"])
    moles.pull()
    moles.server.forget()
    moles.write(peers=True, one=["big"], two=["big"])
    moles.inside("one", "ln -sfn /bin/false /usr/local/bin/systemd-socket-activate")
    try:
        moles.pull()
    finally:
        moles.inside("one", "rm /usr/local/bin/systemd-socket-activate")
    assert [each.begins for each in moles.server.asked] == [0]
    assert moles.digest(f"{DIRECTORY}/big.gguf", "two") == sha256(big)


def private(moles: Moles, parts: list[bytes]) -> None:
    """A model in three parts, in a repository that wants a token, and whose files lie on another server."""
    moles.server.repositories[REPOSITORY] = {f"Q8_0/tiny-{at:05d}-of-00003.gguf": part for at, part in enumerate(parts, 1)}
    moles.server.repositories[REPOSITORY]["README.md"] = b"# tiny"
    moles.server.tokens |= {f"/{REPOSITORY}": TOKEN, f"/api/models/{REPOSITORY}": TOKEN}
    for name, part in moles.server.repositories[REPOSITORY].items():
        moles.server.moved[f"/{REPOSITORY}/resolve/{COMMIT}/{name}"] = f"http://host.docker.internal:{moles.server.port}/cdn/{name}"
        moles.server.files[f"/cdn/{name}"] = part
    moles.models["private"] = {"hf": REPOSITORY, "include": "*Q8_0*"}
    moles.write(one=["private"])


def test_a_private_model_in_parts_is_one_model_and_its_token_goes_to_nobody_else(moles: Moles, tmp_path: Path) -> None:
    parts = gguf(tmp_path, "private", parts=3)
    private(moles, parts)
    assert "store a token with access: `paddock secrets set hf-token`" in moles.pull("--lock", fails=True)
    moles.keep("hf-token", TOKEN)
    said = moles.pull("--lock") + moles.up()
    names = {f"private/private-{at:05d}-of-00003.gguf" for at in (1, 2, 3)}
    assert moles.lies() == {*names, *(f"{name}.sha256" for name in names)}
    assert moles.served() == {"tiny", "private"}
    assert "tiny model" in moles.answer("private")
    given = {each.authorization for each in moles.server.asked if each.path.startswith("/cdn/")}
    assert given == {""}, given
    assert f"Bearer {TOKEN}" in {
        each.authorization for each in moles.server.asked_for(f"/{REPOSITORY}/resolve/{COMMIT}/Q8_0/tiny-00001-of-00003.gguf")
    }
    assert TOKEN not in said
    assert moles.inside("one", f"grep -rlF {TOKEN} /var/lib/paddock /run/paddock /etc /tmp 2>/dev/null || true") == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "answers 404: there is no such file, or not for everybody"),
        (401, "answers 401: is the address right, and does it want a login?"),
        (200, "sends a web page, not a file: is the address right, and does it want a login?"),
        (503, "answers 503; what came is kept"),
    ],
)
def test_a_source_that_answers_something_else_is_told_in_words(moles: Moles, big: bytes, status: int, words: str) -> None:
    moles.offers("big", big)
    moles.server.statuses["/big.gguf"] = status
    moles.write(one=["big"])
    said = moles.pull(fails=True)
    assert f"one: model:{DIRECTORY}/big.gguf: could not be fetched from http://{moles.here}:{moles.server.port}/big.gguf: {words}" in said
    assert moles.lies() == set()


def test_a_login_page_in_the_middle_does_not_cost_what_came_before(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.server.cuts["/big.gguf"] = [5 * MIB, 0, 0, 0, 0, 0]
    moles.write(one=["big"])
    moles.pull(fails=True)
    moles.server.forget()
    moles.server.statuses["/big.gguf"] = 200
    assert "sends a web page" in moles.pull(fails=True)
    assert moles.inside("one", f"stat -c %s {DIRECTORY}/big.gguf.part").strip() == str(5 * MIB)


def test_models_that_do_not_fit_are_refused_before_the_first_byte(moles: Moles, big: bytes, tmp_path: Path) -> None:
    moles.offers("big", big)
    moles.offers("other", gguf(tmp_path, "other", 20 * MIB)[0])
    moles.write(one=["big", "other"])
    moles.inside("one", f"mount -t tmpfs -o size=30m full {DIRECTORY}")  # either would fit
    try:
        said = moles.pull(fails=True)
        assert f"one: directory:{DIRECTORY}: 41 MiB of models are to come, and 30 MiB are free: make room" in said
        assert moles.server.asked == []
    finally:
        moles.inside("one", f"umount {DIRECTORY}")


def test_a_large_model_of_this_machine_goes_on_where_it_was_cut_off(moles: Moles, tmp_path: Path) -> None:
    content = gguf(tmp_path, "mine", 70 * MIB)[0]
    moles.models["mine"] = {"local": str(tmp_path / "mine.gguf")}
    moles.write(one=["mine"])
    assert "models.mine.source: nothing says which file it is" in moles.pull(fails=True)
    moles.pull("--lock")
    with moles.lab.start("models", "pull") as process:
        moles.inside("one", f"for i in $(seq 600); do [ ! -s {DIRECTORY}/mine.gguf.part ] || exit 0; sleep 0.1; done; exit 1")
        process.kill()
    moles.inside("one", "flock /run/paddock/lock true")
    assert moles.lies() == {"mine.gguf.part"}
    said = moles.pull()
    assert not re.search(r"mine\.gguf: 32 of ", said), said  # the first piece was there
    assert moles.digest(f"{DIRECTORY}/mine.gguf") == sha256(content)


def test_a_converged_run_reads_no_model_and_a_deep_verification_does(moles: Moles, big: bytes) -> None:
    moles.offers("big", big)
    moles.write(one=["big"])
    moles.pull()
    moles.inside("one", f"mkdir -p /srv/own; cp {DIRECTORY}/big.gguf /srv/own/own.gguf")
    moles.models["own"] = {"path": "/srv/own/own.gguf", "sha256": sha256(big)}
    moles.write(one=["big", "own"])
    moles.up()
    for path in (f"{DIRECTORY}/big.gguf", "/srv/own/own.gguf"):  # a byte in its middle, with its size, time and inode as they were
        flip = f"printf '\\377' | dd of={path} bs=1 seek={10 * MIB} conv=notrunc status=none"
        moles.inside("one", f"touch -r {path} /root/then; {flip}; touch -r /root/then {path}")
        assert moles.digest(path) != sha256(big)
    assert "one: as declared" in moles.paddock("plan")
    moles.paddock("verify", "--limit", "one")
    said = moles.paddock("verify", "--deep", "--limit", "one", fails=True)
    for path in (f"{DIRECTORY}/big.gguf", "/srv/own/own.gguf"):
        assert re.search(rf"one: model:{path}\n +sha256 is \w+, not {sha256(big)}", said), said
    moles.inside("one", "rm -r /srv/own")


def test_what_no_inventory_names_is_shown_and_taken_away(moles: Moles, big: bytes, tmp_path: Path) -> None:
    moles.offers("big", big)
    moles.offers("other", gguf(tmp_path, "other", 2 * MIB)[0])
    moles.write(one=["big", "other"])
    moles.up()
    moles.write(one=["other"])
    moles.up()
    assert "big.gguf" in moles.lies()  # `up` takes no data away
    asked = moles.lab.paddock("models", "prune")
    assert asked.returncode == 2 and f"one: 21 MiB\n  - {DIRECTORY}/big.gguf  21 MiB\n" in asked.stdout, asked.stdout + asked.stderr
    assert "big.gguf" in moles.lies()
    moles.paddock("models", "prune", "--yes")
    assert moles.lies() == {"other.gguf", "other.gguf.sha256"}
    assert moles.paddock("models", "prune") == "nothing is there that the inventory does not name\n"
    assert "tiny model" in moles.answer("other")
    planned = moles.lab.paddock("plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
