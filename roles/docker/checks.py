"""What shows that the engine runs stacks, and that nobody else gets at it."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from resources import lines_of
from roles.docker.settings import DockerSettings


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
