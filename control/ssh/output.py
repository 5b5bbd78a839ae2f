"""What commands on a host print, read as text whatever its bytes are, and no more of it than a bound has; files that come from it likewise.

paramiko raises at bytes that are not UTF-8. It does so in a thread that pyinfra does not wait for: the lines until then would count as all.
For the same reason what is too much ends the command, which then has failed, and the last line of its errors says why.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import paramiko
from pyinfra.api.util import memoize
from pyinfra.connectors.ssh import SSHConnector

from inventory import bounds
from inventory.bounds import TooMuch, size_words, time_words


class Received(io.RawIOBase):
    """What a channel receives, by its `recv` or `recv_stderr`. paramiko's own file cannot be peeked into, and reads short lines slowly."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self.receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Input(paramiko.channel.ChannelStdinFile):
    """What a command reads. paramiko closes it once more when nobody holds it, and where the connection was lost by then Python would print
    a traceback: whoever wrote to it has heard of that."""

    def __del__(self) -> None:
        with suppress(EOFError, OSError, paramiko.SSHException):
            self.close()


class _Printed:
    """What has come of one command, on both of its channels."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel, self.size, self.lines, self.refused = channel, 0, 0, ""
        self.clock = threading.Timer(bounds.HOST_OUTPUT.seconds or 0, self._late)
        self.clock.daemon = True
        self.clock.start()

    def _late(self) -> None:
        self._refuse(f"it has not ended within {time_words(bounds.HOST_OUTPUT.seconds)}")

    def _refuse(self, words: str) -> None:
        """Ends the command."""
        self.refused = words
        self.channel.close()

    def count(self, line: bytes) -> None:
        self.size, self.lines = self.size + len(line), self.lines + 1
        most = bounds.HOST_OUTPUT
        if len(line) > most.piece:
            self._refuse(f"a line of what it prints is longer than {size_words(most.piece)}")
        elif self.size > most.size or self.lines > most.items:
            self._refuse(f"it prints more than {size_words(most.size)} or {most.items:,} {most.of}")


class _Lines:
    """The lines of a channel's output. Bytes that are not UTF-8 are replaced."""

    def __init__(self, printed: _Printed, receive: Callable[[int], bytes], *, errors: bool = False) -> None:
        self.channel = printed.channel
        self.printed, self.file, self.errors = printed, io.BufferedReader(Received(receive)), errors

    def __iter__(self) -> Iterator[str]:
        while not self.printed.refused and (line := self.file.readline(bounds.HOST_OUTPUT.piece + 1)):
            self.printed.count(line)
            if not self.printed.refused:
                yield line.decode(errors="replace")
        if not self.errors:
            self.printed.clock.cancel()
        elif self.printed.refused:
            yield f"{self.printed.refused}: the rest was not read"


def take_no_more(connector: SSHConnector) -> None:
    """Makes what comes over a connection bounded: output, which any bytes can be read from, and files."""
    client = connector.client
    assert client
    asked = client.exec_command

    def exec_command(*arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
        stdin, stdout, _ = asked(*arguments, **options)
        stdin.__class__ = _Input
        channel = stdout.channel
        printed = _Printed(channel)
        return stdin, _Lines(printed, channel.recv), _Lines(printed, channel.recv_stderr, errors=True)

    @memoize  # which pyinfra empties when it disconnects
    def files() -> _Files:
        link = client.get_transport()
        assert link
        found = _Files.from_transport(link)
        assert isinstance(found, _Files)
        return found

    client.exec_command = exec_command  # type: ignore[method-assign]
    connector.get_file_transfer_connection = files


class _Files(paramiko.SFTPClient):
    def getfo(self, remotepath: Any, fl: IO[bytes], *arguments: Any, **options: Any) -> int:
        """Copies a file of the host, which may be an artifact. Raises TooMuch where it is larger, or does not end."""
        most, began, done = bounds.ARTIFACT_FILE, time.monotonic(), 0
        if channel := self.get_channel():
            channel.settimeout(bounds.STALL_S)
        with self.open(remotepath, "rb") as file:
            size = file.stat().st_size or 0
            if size > most.size:
                raise TooMuch(f"{remotepath}: has {size:,} bytes, and {most.what} has {size_words(most.size)} at most")
            file.prefetch(size)
            while done < size and (data := file.read(1 << 15)):
                done += len(data)
                fl.write(data)
                if most.seconds and time.monotonic() - began > most.seconds:
                    raise TooMuch(f"{remotepath}: has not come within {time_words(most.seconds)}")
        if done != size:
            raise TooMuch(f"{remotepath}: {done:,} bytes of {size:,} have come")
        return done
