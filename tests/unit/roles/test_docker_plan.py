"""The engine: which packages a distribution has it in, and what is refused with the way out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from inventory.fleet import Fleet, Host
from inventory.hardware import NvidiaCard
from inventory.knowledge import Knowledge
from resources import File, Package, of_kind
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
