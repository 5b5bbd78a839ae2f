"""A host that carried every role, through releases, a rollback and a move to an account's own services, is after a teardown as it was, but
for the data that is kept; and after one with `--data` wholly.

The tests are one story, in the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from snapshot import differing
from whole_host import Whole, whole_host

from inventory.load import load
from lab.hosts import in_lab
from roles import ROLES
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=5)

HOSTS = ("all", "far")

SERVING = """
fleet: carried
domain: home.example
networks: [192.0.2.0/24]
groups:
  both:
    hosts: [all, far]
    roles:
      base: {packages: [hello]}
      firewall:
      llama_cpp: {ui: false, builder: all}
      models:
hosts:
  all:
    address: 192.0.2.10
    roles:
      firewall: {allow: {"8081": [192.0.2.0/24]}}
      llama_server:
        api_key: true
        models: [small]
        instances:
          chat: {model: small, listen: "0.0.0.0:8081"}
      client:
        accounts:
          anna: {client: laptop, site: all.home.example, browsers: [chromium, firefox], bridge: "127.0.0.1:8399", pi: true}
      admin: {listen: "0.0.0.0:8079"}
      caddy: {sites: {all.home.example: {upstream: all}}}
      watchdog: {notify: "logger lost"}
  far:
    address: 192.0.2.11
    roles:
      llama_server: {listen: "0.0.0.0:8080", user: server, models: [small]}
models: {small: {source: tiny, preset: {ctx-size: 1024}}}
clients: {laptop: {admin: true}}
"""

OTHER = SERVING.replace("ui: false,", "ui: false, options: {GGML_CPU_REPACK: off},")

WHOLE = (
    SERVING.replace(
        "      llama_server:\n        api_key: true\n",
        """      gpu: {amd: {gtt_mib: 4096}}
      docker:
      litellm: {upstream: [all/chat]}
      langfuse: {email: ann@home.example, images: {web: IMAGE, worker: IMAGE, postgres: IMAGE, clickhouse: IMAGE, valkey: IMAGE, store: IMAGE}}
      localai: {image: IMAGE, card: 0, models: {painter: {model: segmind/SSD-1B}}}
      rpc_worker: {listen: "192.0.2.10:50051", memory_max: 1G, cache: true}
      postgres:
      node_exporter:
      alertmanager: {receivers: {ann: {webhook: {url: "https://hooks.home.example/fleet"}}}}
      prometheus: {leave_out: [far]}
      gateway: {upstream: [all/chat, far], database: {postgres: all}, master_key: true, metrics_listen: "127.0.0.1:9101"}
      llama_server:
        api_key: true
        user: anna
""",
    )
    .replace(
        '"0.0.0.0:8081"}\n',
        '"0.0.0.0:8081"}\n          split: {model: small, listen: "127.0.0.1:8082", workers: [far], preset: {n-gpu-layers: 1}}\n',
    )
    .replace(
        "caddy: {sites: {all.home.example: {upstream: all}}}",
        """caddy:
        sites:
          all.home.example: {upstream: all}
          gate.home.example: {upstream: {gateway: all}}
          far.home.example: {upstream: far}""",
    )
    .replace(
        "      llama_server: {listen",
        """      rpc_worker: {listen: "192.0.2.11:50051", memory_max: 1G}
      gateway: {listen: "127.0.0.1:8001"}
      watchdog:
      llama_server: {listen""",
    )
    + "users: {alice: }\n"
).replace("IMAGE", f"docker.io/example/image:1@sha256:{'5eed' * 16}")
"""Every role, `all`'s servers by now an account's own."""

KEPT = {
    "all": "/var/lib/paddock /var/lib/paddock-gateway /var/lib/paddock-litellm /var/lib/paddock-prometheus /var/lib/paddock-alertmanager /var/cache/paddock-rpc"
    " /etc/postgresql /etc/postgresql-common /var/lib/postgresql /var/log/postgresql /var/lib/docker /var/lib/containerd /etc/cni",
    "far": "/var/lib/paddock /var/lib/paddock-gateway",
}
"""What stays without `--data`, with all that is in it: models, the gateway's databases, their copies and the list of that, what a worker was
sent, Prometheus' readings, Alertmanager's silences, and PostgreSQL's and Docker's own."""

POSTGRES = (
    r"(files|contents): /etc/(init\.d|logrotate\.d|rc\d\.d|apt/apt\.conf\.d|systemd/system/\S*)/[\w-]*postgresql\S* was ",
    r"files: /var/cache/postgresql(/dicts)? was |contents: /etc/(passwd|shadow) was ",
    r"(users|groups): postgres was |packages: postgresql\S* was None, is rc|unit files: postgresql\S* was ",
)
"""What its packages, which are removed and not purged, leave on the host that keeps its databases."""

OWN_LISTS = r"/var/lib/(apt|dpkg|ucf|systemd)/.*"
PASSING = {
    "files": rf"/var/lib/(docker|containerd)(/.*)?|/run/(?!paddock/).*|/run/paddock(/lease|/lock)?|/etc/default/locale|/var/cache/(apt|debconf|ldconfig)/.*|/var/cache/paddock(/.*)?|{OWN_LISTS}",
    "contents": rf"/etc/((passwd|shadow|subuid|subgid)-|(group|gshadow)-?)|/etc/ld\.so\.cache|{OWN_LISTS}",
    "transient units": r".*",
    "groups": r"ssl-cert|docker",
    "sockets": r"/run/user/0/.*",
    "mounts": r"/run/user/0 .*",
    "units": r"network-(online|pre)\.target|(apt|systemd)-.*",
    "processes": r"(root|systemd\S*|messagebus) .*",
    "kernel settings": r"(fs|net|user|kernel\.(random|pty))\..*|kernel\.ns_last_pid",
}
"""What goes at the next boot, what the scripts of the packages locales, ssl-cert and docker.io take or leave when they are purged, the lists of packages' own tools, the
volumes that a lab host begins with, what lab hosts share, and what the kernel counts."""


@dataclass
class Story:
    fleet: LabFleet
    before: Mapping[str, Whole]

    def done(self, verb: str, *arguments: str) -> str:
        """What `paddock` says, which must succeed."""
        done = self.fleet.paddock(*verb.split(), *arguments, "--lab", timeout_s=3000)
        print(done.stdout, done.stderr, flush=True)
        assert done.returncode == 0, f"{verb} {arguments}: {done.returncode}"
        return done.stdout

    def left(self, host: str) -> list[str]:
        """What is not as it was before Paddock came: `files: /etc/x was …, is …`."""
        before, after = self.before[host], whole_host(self.fleet.host(host).container)
        return [
            f"{aspect}: {name} was {was}, is {now}"
            for aspect in before
            for name, (was, now) in differing(before[aspect], after[aspect]).items()
            if not re.fullmatch(PASSING.get(aspect, ""), name)
        ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with lab_fleet("carried", tmp_path_factory.mktemp("carried"), WHOLE, ready=True) as fleet:
        yield Story(fleet, {host: whole_host(fleet.host(host).container) for host in HOSTS})


def test_every_role_is_carried_or_a_lab_says_why_not(story: Story) -> None:
    fleet = load(story.fleet.inventory)
    assert set(fleet.hosts["all"].carried) == set(ROLES)
    there, told = in_lab(fleet)
    lacking = set(ROLES) - set(there.hosts["all"].carried)
    assert all(any(line.startswith(f"all: the role {role} is left out: ") for line in told) for role in lacking)
    assert lacking == {"gpu", "langfuse", "localai"}


def test_it_is_upgraded_rolled_back_backed_up_and_used(story: Story) -> None:
    story.fleet.write(SERVING)
    story.done("up", "--yes", "--no-verify")
    story.fleet.write(OTHER)
    story.done("upgrade", "--yes", "--soak", "1", "--no-measure")
    story.done("rollback", "--yes", "all")
    story.fleet.write(WHOLE)
    story.done("up", "--yes", "--no-verify")
    key = story.done("keys create", "carol", "--on", "all").split()[-1]
    asked = "curl -sf --max-time 300 -o /dev/null -H 'Authorization: Bearer {}' http://127.0.0.1:8001/v1/completions -d '{}'"
    story.fleet.on("all", asked.format(key, '{"model": "small", "prompt": "Hello", "max_tokens": 4}'))
    story.done("backup")


def test_torn_down_it_has_nothing_more_than_the_data_that_is_named(story: Story) -> None:
    said = story.done("teardown", "--yes")
    for host, kept in KEPT.items():
        below = "|".join(rf"{each}(/.*)?" for each in kept.split())
        known = [rf"(files|contents): ({below}) was ", *(POSTGRES if host == "all" else ())]
        left = [each for each in story.left(host) if not any(re.match(pattern, each) for pattern in known)]
        assert left == [], host
    assert "directory:/var/lib/paddock-gateway stays although nothing names it (`paddock teardown --data` takes it away)" in said


def test_with_its_data_it_has_nothing_of_paddocks_any_more(story: Story) -> None:
    story.done("teardown", "--yes", "--data")
    assert {host: story.left(host) for host in HOSTS} == {host: [] for host in HOSTS}
