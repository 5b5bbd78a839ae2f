"""What shows that the engine runs stacks, and that nobody else gets at it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml
from testinfra.host import Host as TestinfraHost

from resources import File, Resource, Stack, lines_of, of_kind
from roles.docker import cards
from roles.docker.settings import DockerSettings

CARD = re.compile(r"nvidia\.com/gpu=[A-Za-z0-9-]+")
"""As a plan's files name a card for CDI."""

MINORS = "awk '/^GPU UUID:/ { uuid = $NF } /^Device Minor:/ { print uuid, $NF }' /proc/driver/nvidia/gpus/*/information"
"""The UUID of each card, and the number of its device node."""


def check_the_engine_answers(host: TestinfraHost) -> None:
    said = host.run("docker version --format '{{.Server.Version}}'")
    assert said.rc == 0, f"no Docker engine answers: {said.stderr.strip()}"


def check_there_is_a_compose_that_can_wait(host: TestinfraHost) -> None:
    said = host.run("docker compose version --short")
    assert said.rc == 0, "docker has no `compose` here"
    version = said.stdout.strip().removeprefix("v")
    assert tuple(int(part) for part in version.split(".")[:2]) >= (2, 17), f"Docker Compose {version} is too old: 2.17 or newer"


def check_its_api_has_no_port(host: TestinfraHost) -> None:
    sockets = [line for line in lines_of(host.check_output("ss -Hltnp")) if '"dockerd"' in line]
    assert not sockets, f"dockerd listens on {sockets[0].split()[3]}: whoever reaches that is root here"


def check_only_root_and_its_group_reach_its_socket(host: TestinfraHost) -> None:
    mode, owner = host.check_output("stat -L -c '%a %U' /var/run/docker.sock").split()
    assert (int(mode, 8) & 0o007, owner) == (0, "root"), f"/var/run/docker.sock is {owner}'s, with the mode {mode}"


def check_containers_outlive_a_restart_of_it(host: TestinfraHost, settings: DockerSettings) -> None:
    if settings.engine == "distribution" and settings.live_restore:
        said = host.check_output("docker info --format '{{.LiveRestoreEnabled}}'").strip()
        assert said == "true", "live-restore is off: a restart of the engine would end every container"


def check_the_cards_of_containers_are_described(host: TestinfraHost, plan: Sequence[Resource]) -> None:
    """Each that a container of the plan is to have."""
    wanted = {card for file in _open_files(plan) for card in CARD.findall(file.data.decode())}
    if not wanted:
        return
    said = host.run("nvidia-ctk cdi list")
    assert said.rc == 0, f"NVIDIA's container toolkit does not answer: {said.stderr.strip()}"
    missing = sorted(wanted - set(said.stdout.split()))
    assert not missing, f"Docker cannot give away {', '.join(missing)}: `journalctl -u {cards.UNIT}` says why"


def check_containers_have_their_cards_and_no_others(host: TestinfraHost, plan: Sequence[Resource]) -> None:
    """By the device nodes that they have; the driver says which card is which."""
    minors: dict[str, str] = {}
    for stack in of_kind(plan, Stack):
        for name, wanted in _cards_of(stack).items():
            minors = minors or dict(line.split() for line in lines_of(host.check_output("sh -c %s", MINORS)))
            command = (
                "docker ps --quiet --filter label=com.docker.compose.project=%s --filter label=com.docker.compose.service=%s |"
                " xargs --no-run-if-empty docker inspect --format '{{.State.Pid}}'"
            )
            for pid in host.check_output(command, stack.project, name).split():
                nodes = host.check_output("find /proc/%s/root/dev -maxdepth 1 -name 'nvidia[0-9]*' -printf '%%f\\n'", pid).split()
                expected = {f"nvidia{minors.get(each, ' of no such card')}" for each in wanted}
                words = f"{stack.name}/{name} has {', '.join(sorted(nodes)) or 'no card'}, not {', '.join(sorted(expected))}"
                assert set(nodes) == expected, f"{words}: `paddock restart {stack.name}/{name}` gives it its own"


def _cards_of(stack: Stack) -> dict[str, list[str]]:
    """Container → the UUIDs of its cards, of those that have some; nothing where nobody here can open what its compose.yml hangs on."""
    path = f"{stack.directory}/compose.yml"
    text = next((each.data for each in _open_files(stack.reads) if each.path == path), b"services: {}")
    devices = {name: CARD.findall("\n".join(each.get("devices", ()))) for name, each in yaml.safe_load(text)["services"].items()}
    return {name: [each.partition("=")[2] for each in found] for name, found in devices.items() if found}


def _open_files(resources: Sequence[Resource]) -> list[File]:
    return [each for each in of_kind(resources, File) if not each.secret and not each.is_unopened]
