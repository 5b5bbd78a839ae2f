"""What makes an image of the lab another one."""

from __future__ import annotations

import time

import pytest

from lab.engine import Engine
from lab.image import image

HAS_ALL_IMAGES = Engine(("echo",))


def test_each_suite_has_an_image_of_its_own_and_one_that_rolls_has_another_every_month(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(day: str) -> list[str]:
        monkeypatch.setattr(time, "gmtime", lambda: time.strptime(day, "%Y-%m-%d"))
        return [image(HAS_ALL_IMAGES, suite) for suite in ("bookworm", "trixie", "forky", "sid")]

    november, december = names("2026-11-01"), names("2026-12-01")
    assert len({*november, *december}) == 6
    assert november[:2] == december[:2]
    assert november == names("2026-11-30")
