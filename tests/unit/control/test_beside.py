"""What somebody else has on a host that leaves no place for a plan: it is told before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from control.deployment.beside import closed, taken
from control.deployment.work import Work
from inventory.neighbours import InputChain
from resources import Port, Resource, Service, User
from resources.base import Attributes, Origin
from resources.drift import drift
from resources.probe import Actual

SERVER = Service("llama-server.service", ports=(Port(8080, ("0.0.0.0",), "llama-server.service"),))
USER = User("llama-server", "/var/lib/paddock/home")


def work(*resources: Resource, found: Mapping[str, Attributes] | None = None, manifest: Mapping[str, Origin] | None = None) -> Work:
    plan = {"llama_server": (*resources, *(port for each in resources if isinstance(each, Service) for port in each.ports))}
    actual = Actual(resources=found or {}, manifest=manifest or {})
    return Work(plan, actual, drift(plan, actual))


def held_by(unit: str, **manifest: Origin) -> list[str]:
    noted: dict[str, Origin] = {f"service:{name}.service": origin for name, origin in manifest.items()}
    return list(taken(work(SERVER, found={"port:8080/tcp": {"addresses": "127.0.0.1", "unit": unit}}, manifest=noted)))


def test_a_port_that_another_unit_holds_is_told_with_the_unit() -> None:
    words = "port 8080/tcp, which llama-server.service is to listen on, is taken by theirs.service"
    assert held_by("theirs.service") == [f"{words}: stop it, or set another port in roles.llama_server"]
    assert "is taken by session-3.scope" in held_by("llama-server.service session-3.scope")[0]
    assert "is taken by another process" in held_by("?")[0]


def test_what_paddock_put_there_gives_its_port_up() -> None:
    assert held_by("old.service", old="put") == []
    assert held_by("llama-server.service") == []
    assert list(taken(work(SERVER))) == []


@pytest.mark.parametrize(("manifest", "words"), [({}, "there is an account llama-server that is not Paddock's"), ({USER.id: "put"}, "")])
def test_an_account_of_somebody_elses_is_not_taken_over(manifest: Mapping[str, Origin], words: str) -> None:
    found = {USER.id: {"home": "/home/llama-server", "shell": "/bin/bash", "groups": "llama-server"}}
    assert "; ".join(taken(work(USER, found=found, manifest=manifest))).partition(" (home")[0] == words
    assert list(taken(work(USER, found={USER.id: {**USER.desired, "groups": "llama-server video"}}))) == []
    unneeded = replace(USER, needed=False)
    assert list(taken(work(unneeded, found=found))) == [], "of an account that only a build needs, nothing is wanted now"


def test_a_chain_that_drops_is_told_with_the_ports_that_it_names_nowhere() -> None:
    told = list(closed(work(SERVER), [InputChain("inet filter input", ("22", "8000-8100")), InputChain("ip filter INPUT", ("22",))]))
    assert told == [
        "nftables' chain ip filter INPUT drops what no rule accepts, and no rule names 8080/tcp: let callers through there",
    ]
    loopback = Service("a.service", ports=(Port(8080, ("127.0.0.1",), "a.service"),))
    assert list(closed(work(loopback), [InputChain("ip filter INPUT")])) == []
