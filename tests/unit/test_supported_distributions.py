"""Which systems a host may run."""

from __future__ import annotations

import pytest

from inventory.hardware import Hardware, unsupported


def running(distribution: str) -> Hardware:
    return Hardware("x86_64", "a processor", frozenset(), 2, 4096, distribution)


@pytest.mark.parametrize(
    "distribution", ["debian 12", "debian 13", "debian forky", "debian ", "ubuntu 22.04", "ubuntu 24.04", "raspbian 12"]
)
def test_a_supported_distribution_is_let_in(distribution: str) -> None:
    assert unsupported(running(distribution)) == ""


@pytest.mark.parametrize("distribution", ["debian 11", "ubuntu 20.04", "fedora 43", "alpine 3.22", ""])
def test_another_is_refused_with_what_is_supported(distribution: str) -> None:
    assert "debian 12 or later" in unsupported(running(distribution))
