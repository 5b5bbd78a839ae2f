"""What is rendered for images that no lab has, read by Docker Compose itself: Langfuse, LocalAI, LiteLLM: validated, not run."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pytest

from resources import File, of_kind
from roles.host_plan import host_plan
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn
from tests.unit.roles import everything

pytestmark = turn(3, of=5)

BARE = """
fleet: validated
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
"""
COMPOSE = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends docker-cli docker-compose"
STACKS = "/etc/paddock/stacks"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """A host with Compose and no engine, and with the files of the stacks where a deploy would put them."""
    with lab_fleet("validated", tmp_path_factory.mktemp("validated"), BARE) as fleet:
        fleet.on("box", f"{COMPOSE} >/dev/null")
        for file in files():
            put(fleet, file.path, file.data)
        yield fleet


def files() -> list[File]:
    fleet = everything.fleet()
    parts = host_plan(fleet.hosts["traces"], fleet, everything.context(fleet))
    return [each for part in parts.values() for each in of_kind(part, File) if each.path.startswith(f"{STACKS}/")]


def put(box: LabFleet, path: str, data: bytes) -> None:
    script = f"mkdir -p {quote(str(Path(path).parent))}; base64 -d >{quote(path)} <<END\n{base64.encodebytes(data).decode()}END\n"
    box.on("box", script)


def config(stack: str, *arguments: str) -> str:
    directory = f"{STACKS}/{stack}"
    return f"docker compose --project-directory {directory} --file {directory}/compose.yml config {' '.join(arguments)} 2>&1"


@pytest.mark.parametrize("stack", ["langfuse", "localai", "litellm"])
def test_compose_reads_what_is_rendered_without_a_word(box: LabFleet, stack: str) -> None:
    assert box.on("box", config(stack, "--quiet")) == ""


def test_compose_finds_each_variable_of_an_env_file_as_it_was_written(box: LabFleet) -> None:
    (shared,) = (each.data.decode() for each in files() if each.path.endswith("/shared.env"))
    for line in shared.splitlines():
        name, _, value = line.partition("=")
        found = box.on("box", f"{config('langfuse')} | grep '^ *{name}:' | sort -u").split()
        assert found == [f"{name}:", value]


def test_what_compose_does_not_know_is_refused(box: LabFleet) -> None:
    """So that the first of these tests can fail."""
    put(box, f"{STACKS}/broken/compose.yml", b"name: broken\nservices: {page: {image: a, memory_limit: 1g}}\n")
    assert "memory_limit" in box.on("box", f"{config('broken', '--quiet')} || true")
