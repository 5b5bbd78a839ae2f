"""Connections to machines, each by its way: a socket, a host key that is the pinned one, and one of the operator's keys.

Several hosts behind a bastion share one connection to it. Whatever leads to a machine, its key is compared here, and what it sends before
anybody knows it is bounded (control/ssh/packets.py): a bastion only carries bytes.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

import control.ssh.cooperative  # isort: skip - first of all
import gevent
import paramiko
from paramiko import BadAuthenticationType, SSHException
from paramiko.ssh_exception import ChannelException

import control.ssh.packets
from control.ssh import ssh_keys
from control.ssh.failures import LOST, Barred, NoKey, NotPinned, NoWay, Refused, WrongKey
from control.ssh.ways import Way, Ways
from control.state.fleet import FleetState
from inventory.fleet import Host

assert control.ssh.cooperative and control.ssh.packets

CONNECT_TIMEOUT_S = 15
KEEPALIVE_S = 10
DEAD_AFTER_S = 30
"""A machine that acknowledges nothing for so long has been lost."""

CONNECTIONS = 4
"""To one machine, one after the other, until a key of many is the right one: sshd ends a connection after six."""

FORBIDDEN = 1
"""One of the reasons that sshd gives for a channel which it does not open (RFC 4254, 5.1)."""

SAID = 4096
"""Bytes of what a ProxyCommand says that are read."""

RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


class Link(paramiko.Transport):
    """A connection whose end, once somebody is logged in, is told as a failure of SSH: pyinfra takes an EOFError for a fault of its own,
    and would end the run for all hosts."""

    def get_exception(self) -> Exception | None:
        error: Exception | None = super().get_exception()
        return SSHException(LOST) if isinstance(error, EOFError) and self.is_authenticated() else error


class Links:
    """Connections to the hosts of a fleet and to their bastions. Those to bastions are shared, and kept until `close`."""

    def __init__(self, hosts: Mapping[str, Host], state: FleetState) -> None:
        self.ways, self.state = Ways(hosts), state
        self._bastions: dict[Way, Link] = {}
        self._one_at_a_time: dict[Way, threading.Lock] = {}
        self._commands: list[subprocess.Popen[bytes]] = []

    def open(self, way: Way) -> Link:
        """A connection where somebody is logged in. Raises NoWay."""
        try:
            pinned = self.state.pinned(way.name)
            if not pinned:
                raise NotPinned(way.name)
            if why := ssh_keys.unusable(way):
                raise NoKey(why)
            keys = ssh_keys.offered(way)
            for _ in range(CONNECTIONS):
                if link := self._open(way, pinned, keys):
                    return link
            raise Refused("it ends the connection after a few keys of many: name the right one with `ssh_key:`")
        except (OSError, SSHException, EOFError) as error:
            raise NoWay(way, error) from error

    def shown(self, way: Way) -> str:
        """The host key that a machine shows, as `ssh-ed25519 AAAA…`. Raises NoWay."""
        try:
            link = self._greeted(way)
            try:
                return _key_of(link)
            finally:
                link.close()
        except (OSError, SSHException, EOFError) as error:
            raise NoWay(way, error) from error

    def close(self) -> None:
        for link in self._bastions.values():
            link.close()
        self._bastions.clear()
        for command in self._commands:
            with suppress(ProcessLookupError):
                command.terminate()
            command.wait()
        self._commands.clear()

    def _open(self, way: Way, pinned: str, keys: Iterator[paramiko.PKey]) -> Link | None:
        """None where the machine has ended the connection before all keys were tried."""
        link = self._greeted(way, pinned)
        try:
            if _key_of(link) != pinned:
                raise WrongKey(way.name)
            if not _log_in(link, way, keys):
                link.close()
                return None
        except BaseException:
            link.close()
            raise
        link.set_keepalive(KEEPALIVE_S)
        if way.via or way.command:
            _give_up_if_silent(link)
        return link

    def _greeted(self, way: Way, pinned: str = "") -> Link:
        """A connection that has agreed on keys, and nothing else."""
        link = Link(self._socket(way))
        try:
            if pinned:
                wanted = RSA if pinned.split()[0] == "ssh-rsa" else (pinned.split()[0],)
                security = link.get_security_options()
                security.key_types = (*wanted, *(each for each in security.key_types if each not in wanted))
            link.start_client(timeout=CONNECT_TIMEOUT_S)
        except EOFError:  # paramiko forgets why it could not send
            link.close()
            if isinstance(link.sock, _OfCommand):
                raise link.sock.ended() from None
            raise
        except BaseException:
            link.close()
            raise
        return link

    def _socket(self, way: Way) -> Any:
        """What carries bytes to a machine's sshd."""
        if way.via:
            return self._forwarded(way, way.via)
        if way.command:
            return self._of_command(way.command)
        direct = socket.create_connection((way.address, way.port), timeout=CONNECT_TIMEOUT_S)
        direct.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000)
        return direct

    def _forwarded(self, way: Way, via: Way) -> paramiko.Channel:
        bastion = self._bastion(via)
        try:
            return bastion.open_channel("direct-tcpip", (way.address, way.port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT_S)
        except ChannelException as error:
            if error.code == FORBIDDEN:
                raise Barred(f"{via.name}, its bastion, forwards nothing: allow it there with `AllowTcpForwarding local`") from None
            raise Barred(f"{via.name}, its bastion, cannot reach it: is the machine on, and are `address:` and `port:` right?") from None

    def _bastion(self, way: Way) -> Link:
        with self._one_at_a_time.setdefault(way, threading.Lock()):
            link = self._bastions.get(way)
            if not link or not link.is_active():
                link = self._bastions[way] = self.open(way)
            return link

    def _of_command(self, command: str) -> socket.socket:
        """A session of its own: Ctrl-C is for Paddock, which may go on."""
        here, there = socket.socketpair()
        said = tempfile.TemporaryFile()  # noqa: SIM115 - read where the command ends
        with there:
            run = ["/bin/sh", "-c", f"exec {command}"]
            process = subprocess.Popen(run, stdin=there.fileno(), stdout=there.fileno(), stderr=said, start_new_session=True)
        self._commands.append(process)
        return _OfCommand(here, process, said, command)


class _OfCommand(socket.socket):
    """The end of a ProxyCommand is told with what it said last."""

    def __init__(self, pair: socket.socket, process: subprocess.Popen[bytes], said: IO[bytes], command: str) -> None:
        super().__init__(pair.family, pair.type, pair.proto, fileno=pair.detach())
        self.process, self.said, self.command, self.received = process, said, command, False

    def recv(self, *arguments: int) -> bytes:
        try:
            data = super().recv(*arguments)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data and not self.received:
            raise self.ended()
        self.received = True
        return data

    def send(self, *arguments: Any) -> int:
        try:
            return super().send(*arguments)
        except (ConnectionResetError, BrokenPipeError):
            if self.received:
                raise
            raise self.ended() from None

    def ended(self) -> Barred:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.said.seek(0)
        lines = [line for line in self.said.read(SAID).decode(errors="replace").split("\n") if line.strip()]
        return Barred(f"its ProxyCommand, `{self.command}`, ended: {lines[-1].strip() if lines else 'it says nothing'}")


def _log_in(link: Link, way: Way, keys: Iterator[paramiko.PKey]) -> bool:
    """Whether the connection lasted so long. Raises Refused, or AuthenticationException where no key is the right one."""
    for key in keys:
        more: list[str] = []
        try:
            more = link.auth_publickey(way.user, key)
        except BadAuthenticationType as error:
            raise Refused(f"it takes no keys, and wants {' or '.join(error.allowed_types) or 'nothing that it names'}") from None
        except SSHException:  # another key is the right one, this was one key too many, or the agent did not sign
            if link.is_active():
                continue
            return False
        if more:
            raise Refused(f"it wants {' and '.join(more)} beside a key")
        return True
    link.auth_none(way.user)  # some let in whom they know by the network
    return True


def _key_of(link: Link) -> str:
    key = link.get_remote_server_key()
    return f"{key.get_name()} {key.get_base64()}"


def _give_up_if_silent(link: Link) -> None:
    """The kernel notices a TCP connection that nobody acknowledges any more. Of one that others carry only an answer says anything."""

    def watch() -> None:
        while link.is_active():
            gevent.sleep(KEEPALIVE_S)
            with gevent.Timeout(DEAD_AFTER_S, False):
                link.global_request("keepalive@openssh.com", wait=True)
                continue
            link.close()

    gevent.spawn(watch)
