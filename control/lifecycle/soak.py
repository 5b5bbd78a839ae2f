"""Watches hosts for a while after their switch: what is restarted then, or is not as declared any more, was no good release."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from control.deployment.deployment import Deployment
from resources import Service

LOOK_S = 10
"""How often a host is looked at."""


def soaked(deployment: Deployment, seconds: int, looks: Callable[[], None]) -> dict[str, str]:
    """Host → what went wrong within that time; it ends with the first that did. `looks` is called before each look."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_S, left))
        looks()
        deployment.survey()
        if failed := dict(deployment.failures) | {name: "; ".join(each) for name, each in _unwell(deployment)}:
            return failed
    return {}


def _unwell(deployment: Deployment) -> Iterator[tuple[str, list[str]]]:
    """Host → its services that are not as they are to be."""
    for name, work in deployment.work.items():
        if wrong := [f"{each.unit} {_words(work.actual.differing(each))}" for each in work.wrong(Service)]:
            yield name, wrong


def _words(differing: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name}: {found or 'nothing'} instead of {wanted}" for name, (found, wanted) in differing.items())
