"""What makes an image of the lab another one."""

from __future__ import annotations

import time

import pytest

from inventory.fleet import Fleet
from lab.engine import Engine
from lab.image import image
from lab.lab_host import suite_of

HAS_ALL_IMAGES = Engine(("echo",))


def test_each_suite_has_an_image_of_its_own_and_one_that_rolls_has_another_every_month(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(day: str) -> list[str]:
        monkeypatch.setattr(time, "gmtime", lambda: time.strptime(day, "%Y-%m-%d"))
        return [image(HAS_ALL_IMAGES, suite) for suite in ("bookworm", "trixie", "forky", "sid")]

    november, december = names("2026-11-01"), names("2026-12-01")
    assert len({*november, *december}) == 6
    assert november[:2] == december[:2]
    assert november == names("2026-11-30")


def test_a_host_has_the_suite_that_its_roles_need_unless_it_names_another() -> None:
    packages = {"llama_cpp": {"source": {"packages": "1:0.7.0+dfsg-2", "ggml": "0.27.0-1"}}}
    entries = {
        "plain": {"roles": {"llama_cpp": {}}},
        "packaged": {"roles": packages},
        "named": {"roles": packages, "lab": {"suite": "forky"}},
    }
    hosts = {name: {"name": name, "address": f"192.0.2.{at}", **entry} for at, (name, entry) in enumerate(entries.items(), 10)}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})
    assert [suite_of(host) for host in fleet.hosts.values()] == ["trixie", "sid", "forky"]
