"""Which images the control machine brings to which host, and which of their files nobody needs any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control.deployment.brought_images import brought_images, unused_archives
from control.fetching.images import archive_path
from control.state.fleet import FleetState
from deploys.uploads import uploads
from inventory.fleet import Fleet
from resources import Image
from resources.steps import Steps
from tests.unit.control.test_models_work import work
from tests.unit.roles.small_fleet import HARDWARE

LOCALAI = f"docker.io/localai/localai:1@sha256:{'a' * 64}"
IMAGE = Image(LOCALAI, brought=True)


def fleet(**hosts: dict[str, Any]) -> Fleet:
    localai = {"image": LOCALAI, "card": 0, "models": {"picture": {"model": "segmind/SSD-1B"}}}
    found = {
        name: {"name": name, "address": f"192.0.2.{at}", "roles": {"docker": docker, "localai": localai}}
        for at, (name, docker) in enumerate(hosts.items(), 1)
    }
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": found})


def test_a_host_that_says_so_is_brought_the_images_of_its_stacks() -> None:
    home = fleet(far={"images": "artifacts"}, near={})
    assert brought_images(home, home.hosts["far"]) == (IMAGE,)
    assert brought_images(home, home.hosts["near"]) == ()


def test_files_that_no_host_is_brought_are_unused_and_those_of_another_platform_too_once_it_is_known(tmp_path: Path) -> None:
    state = FleetState.of(tmp_path / "fleet.yml", "home")
    home = fleet(far={"images": "artifacts"})
    state.directory("artifacts", "images")
    ours, arm, old = (
        archive_path(state, each, architecture)
        for each, architecture in ((IMAGE, "x86_64"), (IMAGE, "aarch64"), (Image(LOCALAI.replace("a" * 64, "b" * 64), True), "x86_64"))
    )
    for each in (ours, arm, old):
        each.touch()
    assert list(unused_archives(home, state)) == [old]
    state.save_hardware("far", HARDWARE)
    assert list(unused_archives(home, state)) == sorted((arm, old))
    assert list(unused_archives(fleet(far={}), state)) == sorted((ours, arm, old))


def test_one_that_is_brought_is_sent_in_pieces_and_one_that_is_not_is_pulled(tmp_path: Path) -> None:
    local = tmp_path / "image.tar"
    local.write_bytes(b"image")
    found = work(plan={"localai": (IMAGE,)})
    for payload, sent, steps in (({IMAGE.id: local}, [(IMAGE, local)], []), ({}, [], [f"put_image {IMAGE.name} {LOCALAI}"])):
        object.__setattr__(found, "payload", payload)
        made = Steps()
        IMAGE.land(made, found)
        assert (list(uploads("localai", found)), made.calls) == (sent, steps)
