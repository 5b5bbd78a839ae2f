"""What commands on a host print, read as text whatever its bytes are.

paramiko raises at bytes that are not UTF-8. It does so in a thread that pyinfra does not wait for: the lines until then would count as all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import paramiko


class _Lines:
    """The lines of a channel's output. Bytes that are not UTF-8 are replaced."""

    def __init__(self, channel: paramiko.Channel, file: paramiko.ChannelFile) -> None:
        self.channel = channel
        self.file = file

    def __iter__(self) -> Iterator[str]:
        return (line.decode(errors="replace") for line in self.file)


def read_any_bytes(client: paramiko.SSHClient) -> None:
    """Makes `client.exec_command` return output that any bytes can be read from."""
    asked = client.exec_command

    def exec_command(*arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
        stdin, stdout, _ = asked(*arguments, **options)
        channel = stdout.channel
        return stdin, _Lines(channel, channel.makefile("rb")), _Lines(channel, channel.makefile_stderr("rb"))

    client.exec_command = exec_command  # type: ignore[method-assign]
