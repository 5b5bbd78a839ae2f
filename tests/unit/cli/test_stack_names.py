"""What `start`, `stop`, `restart` and `logs` mean by the names of stacks and of their containers."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import control.deployment.stacks
from cli.arguments import opened
from cli.services import service_names, services_meant
from inventory.errors import UsageError
from inventory.fleet import Fleet, Host
from resources import Stack, of_kind
from roles.compose import Contained, stack

IMAGE = "docker.io/library/caddy:2@sha256:" + "a" * 64
INVENTORY = """\
fleet: mine
domain: home.example
hosts:
  ai:
    address: 192.0.2.7
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
      llama_server: {instances: {chat: {model: chat, listen: "127.0.0.1:8081"}}}
  prod:
    address: 192.0.2.8
models: {chat: {}}
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """With a stack of two containers on each host, which no role of this product declares without more."""
    (made,) = of_kind(stack("web", {"page": Contained(image=IMAGE), "store": Contained(image=IMAGE)}), Stack)

    def stacks(fleet: Fleet, host: Host) -> tuple[Stack, ...]:
        return (made,)

    monkeypatch.setattr(control.deployment.stacks, "stacks_of", stacks)
    path = tmp_path / "home.yml"
    path.write_text(INVENTORY)
    return argparse.Namespace(inventory=path, limit=[], lab=False)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["ai/chat", "ai/web", "prod/web"]),
        (("ai",), ["ai/chat", "ai/web"]),
        (("web",), ["ai/web", "prod/web"]),
        (("stack:web",), ["ai/web", "prod/web"]),
        (("prod/web",), ["prod/web"]),
        (("web/page",), ["ai/web/page", "prod/web/page"]),
        (("prod/web/page", "prod/web/store"), ["prod/web/page,store"]),
        (("prod/web/page", "prod"), ["prod/web"]),
        (("chat", "prod/web/store"), ["ai/chat", "prod/web/store"]),
    ],
)
def test_a_stack_is_named_alone_with_its_host_or_by_a_container(
    asked: argparse.Namespace, words: tuple[str, ...], found: list[str]
) -> None:
    assert [f"{each.host}/{each.name}" for each in services_meant(opened(asked), list(words))] == found


def test_a_wrong_container_is_told_with_the_one_that_may_be_meant(asked: argparse.Namespace) -> None:
    with pytest.raises(UsageError, match=r'^web/pag: no llama-server and no stack has this name \(did you mean "web/page"\?\)$'):
        services_meant(opened(asked), ["web/pag"])


def test_the_tab_key_offers_stacks_and_containers(asked: argparse.Namespace) -> None:
    assert service_names("prod/", asked) == ["prod/web", "prod/web/page", "prod/web/store"]
