"""Ports that systemd holds for a service: who has one is the socket unit, for the probe and for what `up` does, and a unit that is none of
the fleet's is named."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from resources import File, Port, Service
from resources.probe import ProbeAnswer
from tests.lab_fleet import ROOT

HELD = 'users:(("systemd-socket-",pid=812,fd=3),("systemd",pid=1,fd=55))'
ANSWERS = 'users:(("llama-server",pid=700,fd=9))'
CALLED_SO = 'users:((",pid=1,",pid=901,fd=3))'
"""A process may be called as it likes."""

SHOWN = """Listen=/run/systemd/journal/socket (Datagram)
Listen=/run/systemd/journal/stdout (Stream)
Id=systemd-journald.socket
ActiveState=active

Listen=127.0.0.1:8080 (Stream)
Listen=/run/paddock/llama-server/llama-server.sock (Stream)
Id=proxy.socket
ActiveState=active

Listen=[::]:9090 (Stream)
Id=cockpit.socket
ActiveState=active

Listen=0.0.0.0:18080 (Stream)
Id=other.socket
ActiveState=active

Listen=0.0.0.0:8080 (Stream)
Id=stopped.socket
ActiveState=inactive
"""


def host(tmp_path: Path, sockets: Iterable[str]) -> dict[str, str]:
    """The environment of a host whose `ss` and `systemctl` say this."""
    for name, text in {"ss": "\n".join(sockets), "systemctl": SHOWN}.items():
        (tmp_path / f"{name}.txt").write_text(f"{text}\n")
        (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/{name}.txt\n")
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def holders(tmp_path: Path, port: str, *sockets: str) -> list[str]:
    lines = (f"LISTEN 0 4096 127.0.0.1:{port.partition('/')[0]} 0.0.0.0:* {each}" for each in sockets)
    script = f". {ROOT}/resources/port.sh; port_holders {port}"
    done = subprocess.run(["sh", "-euc", script], env=host(tmp_path, lines), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_what_systemd_holds_is_its_socket_units_also_while_the_service_has_it(tmp_path: Path) -> None:
    assert holders(tmp_path, "8080/tcp", HELD) == ['proxy.socket "systemd" (pid 1)']
    assert holders(tmp_path, "9090/tcp", HELD) == ['cockpit.socket "systemd" (pid 1)']


def test_what_no_socket_unit_that_runs_has_is_nobodys_that_is_known(tmp_path: Path) -> None:
    assert holders(tmp_path, "8081/tcp", HELD) == ['none "systemd" (pid 1)']
    assert holders(tmp_path, "8080/udp", HELD) == ['none "systemd" (pid 1)']


def test_every_process_has_its_own_line(tmp_path: Path) -> None:
    assert [line.split()[1] for line in holders(tmp_path, "8080/tcp", ANSWERS.replace("700", "999999"))] == ['"llama-server"']


def found(port: Port, *sockets: str, held: Iterable[str] = ("proxy.socket\t127.0.0.1:8080\tStream",)) -> dict[str, str]:
    lines = ["#", "# socket", *(f"tcp LISTEN 0 4096 {each}" for each in sockets), "# held", *held]
    return dict(port.found(ProbeAnswer([*lines, "# cgroup", "1\t/init.scope", "812\t/system.slice/proxy.service", "# end"], [port])))


PORT = Port(8080, ("127.0.0.1",), "proxy.socket")


def test_the_probe_finds_the_socket_unit() -> None:
    assert found(PORT, f"127.0.0.1:8080 0.0.0.0:* {HELD}") == {"addresses": "127.0.0.1", "unit": "proxy.socket"}


@pytest.mark.parametrize(
    "held", [(), ("proxy.socket\t127.0.0.1:8081\tStream",), ("proxy.socket",), ("proxy.socket\t127.0.0.1:8080\tDatagram",)]
)
def test_without_such_a_unit_it_is_systemds_and_the_services(held: tuple[str, ...]) -> None:
    assert found(PORT, f"127.0.0.1:8080 0.0.0.0:* {HELD}", held=held)["unit"] == "init.scope proxy.service"


def test_a_name_of_a_process_makes_it_no_part_of_systemd() -> None:
    """It is told at once, by the address that is another, or by the unit that does not hold the port."""
    assert found(PORT, f"127.0.0.2:8080 0.0.0.0:* {CALLED_SO}") != dict(PORT.desired)
    assert found(PORT, f"127.0.0.1:8080 0.0.0.0:* {CALLED_SO}", held=()) != dict(PORT.desired)


def test_a_socket_unit_notes_its_start_and_runs_no_process_of_its_own() -> None:
    listener = File("/etc/systemd/system/proxy.socket", "[Socket]\n")
    service = Service("proxy.socket", restarts=(listener,), ports=(PORT,))
    assert service.stamp.data.decode().startswith("[Socket]\nExecStartPost=+/bin/mkdir -p /run/paddock\n")
    assert service.stamp.path == "/etc/systemd/system/proxy.socket.d/50-paddock.conf"
    assert service.desired.keys() == {"active", "enabled", "daemon-reload", "units", "started", "loaded"}
