"""Hosts as an operator reaches them between runs: a shell as root, lines as they come, and HTTP to what listens there.

HTTP goes through the SSH connection, so that a server on the host's loopback can be asked, and a key is in no argument list.
"""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from queue import Queue
from typing import Any, TypeVar

from control.ssh.run import Run, ask_as_root, connected, transport  # isort: skip - first of all, for gevent
import gevent
from paramiko import Channel, SSHException, Transport
from paramiko.ssh_exception import ChannelException
from pyinfra.api import Host as Target
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.util import make_unix_command_for_host

from control.ssh.failures import last_words
from control.ssh.host_keys import pin_all
from control.ssh.links import FORBIDDEN, Links
from control.ssh.output import Received
from control.state.fleet import FleetState
from control.state.secrets import Secrets, Vault
from inventory import bounds
from inventory.bounds import size_words
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host

OPEN_TIMEOUT_S = 15
GONE = "the connection to it was lost: is the machine on?"

T = TypeVar("T")


class NotListening(PaddockError):
    """Nothing answers at the address on the host."""


class Reach:
    """Some hosts of a fleet, connected to. `failures` is host → why not, of those that could not be reached."""

    def __init__(self, fleet: Fleet, state: FleetState, hosts: Iterable[Host]) -> None:
        self.fleet, self.state = fleet, state
        self.hosts = {host.name: host for host in hosts}
        self.secrets = Secrets(Vault(state))
        self.run = Run(self.hosts, Links(fleet.hosts, state), self.secrets)
        self.hung_up = False
        self._read: set[Channel] = set()

    @property
    def failures(self) -> dict[str, str]:
        return self.run.failures

    @contextmanager
    def connected(self, ask: Callable[[str], bool] = lambda question: False) -> Iterator[None]:
        self.failures.update(pin_all(self.hosts.values(), self.run.links, ask))
        self.run.connect()
        try:
            yield
        finally:
            self.run.disconnect()

    def hang_up(self) -> None:
        """Ends what `lines` reads."""
        self.hung_up = True
        for channel in list(self._read):
            channel.close()

    def of_each(self, question: Callable[[str], T]) -> Mapping[str, T]:
        """What a question comes to on each host that was reached, asked side by side."""
        return self.run.of_each([name for name in self.hosts if name not in self.failures], lambda target: question(target.name))

    def shell(self, host: str, script: str, doing: str) -> list[str]:
        """What a script prints, run as root. Raises PaddockError with the last words of one that fails; `doing` says at what."""
        target = self._target(host)
        try:
            ok, output = ask_as_root(target, "sh", script)
        except (SSHException, OSError, EOFError):
            raise PaddockError(f"{host}: {GONE}") from None
        except PaddockError as error:  # of sudo's password
            raise PaddockError(f"{host}: {error}") from None
        if not ok:
            raise PaddockError(f"{host}: {last_words(output.stderr_lines, doing) if connected(target) else GONE}")
        return list(output.stdout_lines)

    def lines(self, host: str, command: str, doing: str) -> Iterator[str]:
        """What a command prints, run as root, line by line, as long as it runs: its standard input is open until nobody reads any more."""
        target, channel = self._target(host), self._started(host, command)
        self._read.add(channel)
        try:
            if self.hung_up:  # while this was on its way
                return
            begun, cut = b"", False
            received = io.BufferedReader(Received(channel.recv))
            while line := received.readline(bounds.FOLLOWED.piece):
                if cut:  # it is shown without its end
                    cut = not line.endswith(b"\n")
                elif line.endswith(b"\n"):
                    yield line.decode(errors="replace").rstrip("\r\n")
                elif len(line) == bounds.FOLLOWED.piece:
                    yield f"{line.decode(errors='replace')} … (a line longer than {size_words(len(line))})"
                    cut = True
                else:
                    begun = line  # the last one, whole only where the command has ended by itself
            status = channel.recv_exit_status()
            if status and not self.hung_up:
                said = channel.makefile_stderr("rb").read(bounds.HOST_ERRORS.size).decode(errors="replace").split("\n")
                raise PaddockError(f"{host}: {last_words(said, doing) if connected(target) else GONE}")
            if begun and not status:
                yield begun.decode(errors="replace")
        except (SSHException, OSError, EOFError):
            if not self.hung_up:
                raise PaddockError(f"{host}: {GONE}") from None
        finally:
            self._read.discard(channel)
            _close(channel)

    def blocks(self, host: str, command: str, doing: str) -> Iterator[bytes]:
        """What a command prints, run as root, as it is. Raises PaddockError as `shell` does, then also where its output has come whole."""
        with self._running(host, command, doing) as channel:
            channel.shutdown_write()
            while data := channel.recv(bounds.KIB << 8):
                yield data

    @contextmanager
    def feed(self, host: str, command: str, doing: str) -> Iterator[Callable[[bytes], None]]:
        """What gives bytes to a command's standard input, run as root. Raises PaddockError as `shell` does, once there are no more."""
        with self._running(host, command, doing) as channel:
            yield channel.sendall
            channel.shutdown_write()
            while channel.recv(bounds.KIB << 8):
                pass

    @contextmanager
    def _running(self, host: str, command: str, doing: str) -> Iterator[Channel]:
        """Whatever it prints has to be read within. It has succeeded where this ends."""
        channel = self._started(host, command)
        try:
            try:
                yield channel
            except OSError:
                if not channel.exit_status_ready():
                    raise
                # it has ended before it had read all: its own words say why
            status = channel.recv_exit_status()
            if status:
                said = channel.makefile_stderr("rb").read(bounds.HOST_ERRORS.size).decode(errors="replace").split("\n")
                raise PaddockError(f"{host}: {last_words(said, doing) if connected(self._target(host)) else GONE}")
        except (SSHException, OSError, EOFError):
            raise PaddockError(f"{host}: {GONE}") from None
        finally:
            _close(channel)

    def _started(self, host: str, command: str) -> Channel:
        """A command at work, as root."""
        target = self._target(host)
        if self.run.way(host).becomes_root:
            self.shell(host, "true", "sudo")  # whether sudo asks for a password is found out, and settled, here
        arguments = {"_sudo": target.data.get("_sudo"), "_sudo_password": target.data.get("_sudo_password")}
        shell = make_unix_command_for_host(self.run.pyinfra, target, StringCommand(command), **arguments)
        channel = self._transport(host).open_session(timeout=OPEN_TIMEOUT_S)
        channel.exec_command(shell.get_raw_value())
        return channel

    def http(self, host: str, address: str, port: int) -> Tunnelled:
        """A connection to what listens on the host, seen from itself. Raises NotListening, or PaddockError where sshd forwards nothing."""
        try:
            channel = self._transport(host).open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=OPEN_TIMEOUT_S)
        except ChannelException as error:
            if error.code == FORBIDDEN:
                raise PaddockError(
                    f"{host}: its sshd forwards nothing, and that is the way to {address}:{port}: allow it with `AllowTcpForwarding local`"
                ) from None
            raise NotListening(f"{host}: nothing answers on {address}:{port}") from None
        except (SSHException, OSError, EOFError):
            raise PaddockError(f"{host}: {GONE}") from None
        return Tunnelled(channel, address, port)

    def _target(self, host: str) -> Target:
        target = self.run.pyinfra.inventory.get_host(host)
        assert target
        return target

    def _transport(self, host: str) -> Transport:
        """The connection to a host, made anew where it was lost: a person thinks longer than some firewalls remember."""
        target = self._target(host)
        if not connected(target):
            try:
                target.connector.connect()
            except PyinfraError:
                raise PaddockError(f"{host}: {GONE}") from None
        link = transport(target)
        assert link
        return link


def _close(channel: Channel) -> None:
    """Also where the connection is gone, which paramiko raises then."""
    with suppress(SSHException, OSError, EOFError):
        channel.close()


class Tunnelled(HTTPConnection):
    """HTTP over a channel that is open already: one request."""

    def __init__(self, channel: Channel, address: str, port: int) -> None:
        super().__init__(address, port)
        self.channel = channel
        self.sock: Any = _Socket(channel)

    def connect(self) -> None:
        raise OSError("closed")

    def hang_up(self) -> None:
        """Whoever reads the answer, finds that it has ended."""
        self.channel.close()


class _Socket:
    """As much of a socket as HTTP needs. To close it leaves the answer to be read, as with a real one."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sendall, self.settimeout = channel.sendall, channel.settimeout

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(Received(self.channel.recv))

    def close(self) -> None: ...


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Has Ctrl-C do something else than end the program. It is done beside what is at work, which an exception could hit anywhere."""
    before = signal.signal(signal.SIGINT, lambda number, frame: gevent.spawn(act) and None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def as_they_come(streams: Iterable[Iterator[T]], failed: Callable[[str], None]) -> Iterator[T]:
    """The items of several streams, each as soon as it is there. `failed` hears of a stream that fails with a PaddockError, and the others
    go on; any other error is raised here.
    """
    arrived: Queue[T | Exception | None] = Queue()

    def hand_on(stream: Iterator[T]) -> None:
        try:
            for item in stream:
                arrived.put(item)
        except Exception as error:
            arrived.put(error)
        finally:
            arrived.put(None)

    running = [gevent.spawn(hand_on, stream) for stream in streams]
    left = len(running)
    try:
        while left:
            item = arrived.get()
            if item is None:
                left -= 1
            elif isinstance(item, PaddockError):
                failed(str(item))
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        gevent.killall(running)
