"""The engine: which packages a distribution has it in, and what is refused with the way out."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inventory.fleet import Fleet, Host
from inventory.hardware import NvidiaCard
from inventory.knowledge import Knowledge
from resources import UNOPENED, File, Package, Resource, Service, Stack, of_kind
from roles.compose import Contained, stack
from roles.docker.checks import MINORS, _cards_of
from roles.docker.plan import CONFIGURATION, plan, refusals
from roles.docker.settings import DockerSettings
from tests.unit.roles.small_fleet import HARDWARE

HOST = Host(name="ai", address="192.0.2.7")
FLEET = Fleet(name="home", domain="home.example", hosts={"ai": HOST})


def knowledge(distribution: str, docker: str = "") -> Knowledge:
    return Knowledge(hardware={"ai": replace(HARDWARE, distribution=distribution, docker=docker)})


def refused(settings: DockerSettings, distribution: str, docker: str = "") -> list[str]:
    return list(refusals(HOST, settings, FLEET, knowledge(distribution, docker)))


@pytest.mark.parametrize(
    ("distribution", "compose"),
    [("debian 13", "docker-compose"), ("debian forky", "docker-compose"), ("ubuntu 22.04", "docker-compose-v2")],
)
def test_compose_comes_in_the_package_that_the_distribution_has_it_in(distribution: str, compose: str) -> None:
    packages = [each.name for each in of_kind(plan(HOST, DockerSettings(), FLEET, knowledge(distribution)), Package)]
    assert compose in packages and "docker.io" in packages
    assert refused(DockerSettings(), distribution) == []


def test_a_distribution_without_compose_2_is_refused_with_the_way_out() -> None:
    (words,) = refused(DockerSettings(), "debian 12")
    assert "debian 12 has no package of Docker Compose 2" in words and "engine: installed" in words


def test_an_engine_that_somebody_installed_stays_as_it_is() -> None:
    resources = list(plan(HOST, DockerSettings(engine="installed"), FLEET, knowledge("debian 12", "27.1")))
    assert not of_kind(resources, File) and not of_kind(resources, Package)
    assert refused(DockerSettings(engine="installed"), "debian 12", "27.1.2") == []
    (words,) = refused(DockerSettings(engine="installed"), "debian 12", "19.03.13")
    assert "Docker 19.03.13 is too old: 20.10 or newer" in words


def test_the_settings_of_such_an_engine_can_be_handed_on_with_all_their_defaults() -> None:
    settings = DockerSettings.model_validate({"engine": "installed", "images": "artifacts"})
    assert DockerSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("said", [{"data_root": "/srv/docker"}, {"live_restore": False}, {"log_files": 5}])
def test_of_such_an_engine_nothing_can_be_set(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(said))):
        DockerSettings.model_validate({"engine": "installed", **said})


def test_what_publishes_a_port_without_an_address_publishes_it_on_loopback() -> None:
    (file,) = of_kind(plan(HOST, DockerSettings(data_root="/srv/docker"), FLEET, knowledge("debian 13")), File)
    said = json.loads(file.data)
    assert file.path == CONFIGURATION
    assert (said["ip"], said["live-restore"], said["data-root"]) == ("127.0.0.1", True, "/srv/docker")
    assert "hosts" not in said


def test_devices_can_be_named_as_cdi_names_them_where_there_is_a_card_of_nvidias() -> None:
    card = NvidiaCard("GPU-1", "0000:01:00.0", "P104-100", "6.1", 8118)
    rig = Knowledge(hardware={"ai": replace(HARDWARE, distribution="debian 13", nvidia_cards=(card,))})
    (file,) = of_kind(plan(HOST, DockerSettings(), FLEET, rig), File)
    assert json.loads(file.data)["features"] == {"cdi": True}
    (file,) = of_kind(plan(HOST, DockerSettings(), FLEET, knowledge("debian 13")), File)
    assert "features" not in json.loads(file.data)


class Rig:
    """A host with two cards, of which a container gets one."""

    def __init__(self, docker: str = "", **said: Any) -> None:
        cards = tuple(NvidiaCard(f"GPU-{at}", f"0000:0{at}:00.0", "P104-100", "6.1", 8118) for at in (1, 2))
        self.known = Knowledge(hardware={"ai": replace(HARDWARE, distribution="debian 13", nvidia_cards=cards, docker=docker)})
        self.settings = DockerSettings.model_validate(said)
        models = {"picture": {"model": "segmind/SSD-1B"}}
        localai = {"image": f"docker.io/localai/localai:1@sha256:{'a' * 64}", "card": 0, "models": models}
        roles = {"docker": said, "localai": localai}
        self.host = Host.model_validate({"name": "ai", "address": "192.0.2.7", "roles": roles})

    @property
    def resources(self) -> list[Resource]:
        return list(plan(self.host, self.settings, FLEET, self.known))

    @property
    def refusals(self) -> list[str]:
        return list(refusals(self.host, self.settings, FLEET, self.known))


def test_cards_are_described_before_the_engine_starts_and_anew_for_another_driver() -> None:
    rig = Rig().resources
    assert [each.name for each in of_kind(rig, Service)] == ["paddock-cards.service", "paddock-cards-again.path", "docker.service"]
    texts = {each.path.rpartition("/")[2]: each.data.decode() for each in of_kind(rig, File)}
    assert "\nBefore=docker.service\n" in texts["paddock-cards.service"] and "RemainAfterExit=yes" in texts["paddock-cards.service"]
    assert "RemainAfterExit" not in texts["paddock-cards-again.service"], "the path unit could start it once and never again"
    assert "PathChanged=/lib/modules/%v/modules.dep" in texts["paddock-cards-again.path"]


def test_nothing_is_described_where_no_container_gets_a_card() -> None:
    rig = Rig()
    assert [each.name for each in of_kind(plan(HOST, rig.settings, FLEET, rig.known), Service)] == ["docker.service"]


def test_nvidias_toolkit_is_a_package_file_of_its_own_digest() -> None:
    toolkit = {"url": "https://mirror.home.example/toolkit.deb", "sha256": "5eed" * 16, "version": "1.20.1-1"}
    rig = Rig(toolkit=toolkit)
    (package,) = [each for each in of_kind(rig.resources, Package) if each.deb]
    assert (package.name, package.version, package.deb) == ("nvidia-container-toolkit-base", "1.20.1-1", "5eed" * 16)
    assert [(name, key) for name, key, _ in rig.settings.package_files()] == [(package.name, "toolkit")]


def test_an_engine_that_knows_no_cdi_is_refused_where_a_container_gets_a_card() -> None:
    (words,) = Rig(docker="24.0.7").refusals
    assert "Docker 24.0.7 cannot give NVIDIA cards to containers, which takes 25 or newer" in words and "engine: installed" in words
    (words,) = Rig(docker="24.0.7", engine="installed").refusals
    assert words.endswith("25 or newer")
    assert Rig(docker="26.1.5").refusals == []
    assert refused(DockerSettings(), "ubuntu 24.04", "24.0.7") == []


def test_the_cards_of_a_stack_are_those_that_its_compose_file_names() -> None:
    wanted = Contained(image=f"docker.io/localai/localai:1@sha256:{'a' * 64}", cards=("nvidia.com/gpu=GPU-1",))
    beside = Contained(image=wanted.image)
    (made,) = of_kind(stack("pictures", {"paints": wanted, "waits": beside}), Stack)
    assert _cards_of(made) == {"paints": ["GPU-1"]}
    sealed = File("/etc/paddock/stacks/pictures/key", UNOPENED, secret=True, mode=0o600)
    (made,) = of_kind(stack("pictures", {"paints": replace(wanted, reads={"/key": sealed})}), Stack)
    assert _cards_of(made) == {}


def test_the_driver_is_asked_for_the_node_of_each_card(tmp_path: Path) -> None:
    """As its README has it: https://download.nvidia.com/XFree86/Linux-x86_64/580.65.06/README/procinterface.html"""
    for minor in (0, 1):
        information = tmp_path / f"0000:0{minor + 1}:00.0" / "information"
        information.parent.mkdir()
        information.write_text(f"Model: \t\t P104-100\nIRQ:   \t\t 130\nGPU UUID: \t GPU-{minor + 5}\nDevice Minor: \t {minor}\n")
    said = subprocess.run(["sh", "-c", MINORS.replace("/proc/driver/nvidia/gpus", str(tmp_path))], capture_output=True, text=True)
    assert said.stdout.split("\n")[:2] == ["GPU-5 0", "GPU-6 1"]


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("", "there is no nvidia-ctk: give the role docker its `toolkit`"),
        ("echo 'nvml: Driver/library version mismatch'; exit 1", "the driver was upgraded, and the old one is loaded still"),
        ("echo first; echo 'no such device'; exit 1", "no such device"),
    ],
)
def test_why_the_cards_cannot_be_described_is_told(tmp_path: Path, tool: str, words: str) -> None:
    for each in ("sh", "printf", "tail", "cat"):
        (tmp_path / each).symlink_to(shutil.which(each) or "")
    if tool:
        (tmp_path / "nvidia-ctk").write_text(f"#!/bin/sh\n{tool}\n")
        (tmp_path / "nvidia-ctk").chmod(0o755)
    (script,) = [each for each in of_kind(Rig().resources, File) if each.path.endswith("/cards.sh")]
    said = subprocess.run(["sh"], input=script.data, capture_output=True, env={"PATH": str(tmp_path)})
    assert said.returncode == 1
    assert words in said.stdout.decode() and said.stdout.decode().startswith("cannot describe the NVIDIA cards for Docker: ")


@pytest.mark.parametrize("engine", ["distribution", "installed"])
def test_images_come_from_the_control_machine_where_the_role_says_so_whosever_engine_it_is(engine: str) -> None:
    roles = {"docker": {"engine": engine, "images": "artifacts"}}
    assert Host.model_validate({"name": "ai", "address": "192.0.2.7", "roles": roles}).brings_images
    assert not Rig(engine=engine).host.brings_images
