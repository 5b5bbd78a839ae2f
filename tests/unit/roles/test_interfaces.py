"""A server that listens at the address of a network interface, which the host's facts say."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import Small

from facts.hardware import COMMAND, IDENTITY_SH, HardwareFact
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from lab.container import LabHost
from lab.overlay import overlay
from resources import Port
from roles.host_plan import host_plan
from roles.role import InterfaceEndpoint, Settings

SOCKET = "/etc/systemd/system/paddock-proxy-llama-server.socket"
ADDRESSES = {"eth0": ("192.0.2.10", "2001:db8::10"), "wg0": ("2001:db8:9::1",), "eth1": ("198.51.100.7",)}


@pytest.fixture
def wired(small: Small) -> Small:
    """`ai` listens on eth0, whose address its callers have."""
    small.hardware = replace(small.hardware, addresses=ADDRESSES)
    small.roles["ai"]["llama_server"] |= {"listen": "eth0:8080", "encrypted": False}
    return small


def listens(small: Small, host: str = "ai", path: str = SOCKET) -> list[str]:
    lines = small.text(host, path).splitlines()
    return [line.removeprefix("ListenStream=") for line in lines if line.startswith("ListenStream=") and "/" not in line]


def port(small: Small) -> Port:
    found = small.plan("ai")["port:8080/tcp"]
    assert isinstance(found, Port)
    return found


def test_it_listens_at_the_interfaces_address_and_for_its_own_host_on_loopback(wired: Small) -> None:
    assert listens(wired) == ["192.0.2.10:8080", "127.0.0.1:8080"]
    assert (port(wired).addresses, port(wired).reachable_from) == (("192.0.2.10", "127.0.0.1"), ("door",))


def test_an_interface_without_ipv4_has_its_servers_at_ipv6(wired: Small) -> None:
    instances = {"chat": {"model": "demo", "listen": "wg0:8090", "count": 2}}
    wired.roles["one"]["llama_server"] = {"instances": instances}
    wired.roles["one"]["caddy"]["sites"]["one.home.example"]["upstream"] = "one/chat"
    assert listens(wired, "one", SOCKET.replace("server", "server-chat-2")) == ["[2001:db8:9::1]:8091", "127.0.0.1:8091"]


def test_another_address_of_the_interface_is_another_unit(wired: Small) -> None:
    before = wired.text("ai", SOCKET)
    wired.addresses["ai"] = "192.0.2.77"
    wired.hardware = replace(wired.hardware, addresses={"eth0": ("192.0.2.77",)})
    assert wired.text("ai", SOCKET) == before.replace("192.0.2.10", "192.0.2.77")


def test_through_a_tunnel_its_callers_reach_the_same_address(wired: Small) -> None:
    wired.roles["ai"]["llama_server"]["encrypted"] = True
    assert listens(wired) == ["127.0.0.1:8080"]
    assert "ListenStream=192.0.2.10:8080\n" in wired.text("ai", "/etc/systemd/system/paddock-http-tunnel.socket")


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("enp5s0:8080", r"ai has no interface enp5s0 with an address: it has eth0 \(192\.0\.2\.10 and 2001:db8::10\), wg0 \("),
        ("eth1:8080", r"door calls it at 192\.0\.2\.10, which is no address of eth1 \(198\.51\.100\.7\): name the interface that has it"),
    ],
)
@pytest.mark.parametrize("encrypted", [True, False])
def test_where_it_cannot_be_reached_so_the_host_has_no_plan(wired: Small, listen: str, words: str, encrypted: bool) -> None:
    wired.roles["ai"]["llama_server"] |= {"listen": listen, "encrypted": encrypted}
    with pytest.raises(PaddockError, match=rf"^hosts\.ai\.roles\.llama_server\.listen: {words}"):
        wired.plan("ai")


def test_of_a_host_that_nobody_has_looked_at_there_is_a_plan(wired: Small) -> None:
    known = replace(wired.context, hardware={})
    planned = (each for part in host_plan(wired.fleet.hosts["ai"], wired.fleet, known).values() for each in part)
    assert [each.addresses for each in planned if isinstance(each, Port)] == [("0.0.0.0",)]


def test_of_one_whose_addresses_nobody_has_read_there_is_none(wired: Small) -> None:
    wired.hardware = replace(wired.hardware, addresses={})
    with pytest.raises(PaddockError, match=r"no interface eth0 with an address: it has none$"):
        wired.plan("ai")


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("localhost:8080", r"localhost is no network interface: write 127\.0\.0\.1:8080"),
        ("eth0:0", "port 0 is not between"),
        ("eth0", "is not ADDRESS:PORT"),
        ("an-interface-too-long:8080", "is not ADDRESS:PORT"),
        ("eth 0:8080", "is not ADDRESS:PORT"),
    ],
)
def test_what_is_no_interface_with_a_port_is_refused(listen: str, words: str) -> None:
    class Some(Settings):
        listen: InterfaceEndpoint

    with pytest.raises(ValueError, match=words):
        Some.model_validate({"listen": listen})


def test_in_a_lab_it_listens_where_the_lab_host_does(wired: Small) -> None:
    lab = LabHost(
        "home", "ai", "paddock-home-ai", "running", "root", Path("/lab/ssh_key"), "172.17.0.2", "172.17.0.0/16", "ssh-ed25519 AAAA"
    )
    hosts = wired.fleet.model_copy(update={"hosts": {"ai": wired.fleet.hosts["ai"]}})
    fleet, told = overlay(hosts, {"ai": lab})
    assert settings(fleet).listen == "172.17.0.2:8080"
    assert "ai: llama_server.listen is 172.17.0.2:8080 in place of eth0:8080." in told


def settings(fleet: Fleet) -> Any:
    return fleet.hosts["ai"].roles.llama_server  # type: ignore[attr-defined]


def test_a_machine_says_its_addresses_and_another_address_is_another_machine(tmp_path: Path) -> None:
    """With a program `ip` that says what it is told."""
    line = "{0}: {1}    {2} {3} {4}scope global {5}\\\\       valid_lft forever preferred_lft forever"
    first = [
        line.format(2, "eth0", "inet6", "2001:db8::10/64", "", "dynamic mngtmpaddr noprefixroute"),
        line.format(2, "eth0", "inet6", "2001:db8::beef/64", "", "temporary dynamic"),
        line.format(2, "eth0", "inet", "192.0.2.10/24", "brd 192.0.2.255 ", "dynamic eth0"),
        line.format(7, "wg0@if8", "inet", "10.9.0.1 peer 10.9.0.2/32", "", "wg0"),
    ]

    def said(lines: list[str], command: str) -> list[str]:
        (tmp_path / "ip").write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
        (tmp_path / "ip").chmod(0o755)
        script = f"PATH={tmp_path}:$PATH\n{command}"
        return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()

    found = HardwareFact().process(said(first, COMMAND))
    assert found.addresses == {"eth0": ("192.0.2.10", "2001:db8::10"), "wg0": ("10.9.0.1",)}
    temporary = [each.replace("beef", "cafe") for each in first]
    moved = [each.replace("192.0.2.10/", "192.0.2.11/") for each in first]
    assert said(first, IDENTITY_SH) == said(temporary, IDENTITY_SH) != said(moved, IDENTITY_SH)
