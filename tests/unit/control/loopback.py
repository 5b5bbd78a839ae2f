"""SSH servers on loopback, in this process, that run and forward what they are asked to. Imported after gevent is in place."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import paramiko

READS = re.compile(r"\b(sh( -s)?|cat)'?$")
"""Commands that read their standard input, by their end."""


class Host(paramiko.ServerInterface):
    """Lets in whoever has one of its keys, or everybody where it has none; runs what it is told to, with its `environment` beside that of
    this process, and forwards to where it is asked."""

    def __init__(self, keys: tuple[str, ...] = (), forwards: bool = True, environment: Mapping[str, str] | None = None) -> None:
        self.keys, self.forwards, self.environment = keys, forwards, environment or {}
        self.forwarded: dict[int, tuple[str, int]] = {}
        self.offered: list[str] = []

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_FAILED if self.keys else paramiko.AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.offered.append(f"{username} {key.get_base64()}")
        return paramiko.AUTH_SUCCESSFUL if key.get_base64() in self.keys else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey" if self.keys else "none"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Any, destination: tuple[str, int]) -> int:
        if not self.forwards:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self.forwarded[chanid] = destination
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=run, args=(channel, command.decode(), self.environment), daemon=True).start()
        return True


def run(channel: paramiko.Channel, command: str, environment: Mapping[str, str]) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(["sh", "-c", command], env={**os.environ, **environment}, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        with suppress(OSError, EOFError), process.stdin:
            while READS.search(command) and (data := channel.recv(1 << 15)):
                process.stdin.write(data)
        try:
            while data := process.stdout.read(1 << 15):
                channel.sendall(data)
            channel.sendall_stderr(process.stderr.read())
            channel.send_exit_status(process.wait())
        except (OSError, EOFError):
            process.kill()
        channel.close()


def forward(transport: paramiko.Transport, host: Host) -> None:
    kept = []  # paramiko closes a channel that nobody holds
    while transport.is_active():
        if not (channel := transport.accept(0.2)):
            continue
        kept.append(channel)
        if channel.chanid not in host.forwarded:
            continue
        there = socket.create_connection(host.forwarded[channel.chanid])
        threading.Thread(target=pump, args=(channel.recv, there.sendall), daemon=True).start()
        threading.Thread(target=pump, args=(there.recv, channel.sendall, channel), daemon=True).start()


def pump(receive: Any, send: Any, ends: paramiko.Channel | None = None) -> None:
    try:
        while data := receive(1 << 15):
            send(data)
    except (OSError, EOFError):
        pass
    if ends:
        ends.close()


@dataclass
class Served:
    """A server that listens, and every connection that it has had."""

    address: str
    port: int
    host_key: paramiko.PKey
    host: Host
    connections: list[paramiko.Transport] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.host_key.get_name()} {self.host_key.get_base64()}"

    def die(self) -> None:
        """As a host does that reboots."""
        for each in self.connections:
            each.close()


@contextmanager
def served(*keys: str, address: str = "127.0.0.1", forwards: bool = True, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listening:
        this = Served(address, listening.getsockname()[1], paramiko.ECDSAKey.generate(), Host(keys, forwards, environment))
        threading.Thread(target=_serve, args=(listening, this), daemon=True).start()
        yield this
        this.die()


def _serve(listening: socket.socket, this: Served) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        transport = paramiko.Transport(connection)
        transport.add_server_key(this.host_key)
        this.connections.append(transport)
        try:
            transport.start_server(threading.Event(), this.host)
        except (paramiko.SSHException, OSError, EOFError):
            continue
        threading.Thread(target=forward, args=(transport, this.host), daemon=True).start()
