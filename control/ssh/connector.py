"""pyinfra's connector, on a connection that Paddock has opened."""

from __future__ import annotations

from typing import Any

import paramiko
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.ssh_util import _patch_paramiko_sk_key_support

from control.ssh.failures import LOST, NoWay
from control.ssh.links import Link, Links
from control.ssh.output import take_no_more
from control.ssh.ways import Way

LINKS, WAY = "paddock_links", "paddock_way"
"""Of a pyinfra host's data: what opens connections, and the way to the host."""


class Unreachable(ConnectError):
    """There is no connection; `why` says it."""

    def __init__(self, why: NoWay) -> None:
        super().__init__(str(why) or type(why.error).__name__)
        self.why = why


class Connector(SSHConnector):
    def connect(self) -> None:
        """Raises Unreachable. A connection that was lost is made anew."""
        _patch_paramiko_sk_key_support()
        links, way = self.host.data.get(LINKS), self.host.data.get(WAY)
        assert isinstance(links, Links) and isinstance(way, Way)
        try:
            client = _Client(links.open(way))
        except NoWay as why:
            raise Unreachable(why) from None
        self.client = client  # type: ignore[assignment]  # of pyinfra's own it uses what paramiko's has
        take_no_more(self)

    def run_shell_command(self, *arguments: Any, **options: Any) -> Any:
        return _told(super().run_shell_command, *arguments, **options)

    def put_file(self, *arguments: Any, **options: Any) -> bool:
        return bool(_told(super().put_file, *arguments, **options))

    def get_file(self, *arguments: Any, **options: Any) -> bool:
        return bool(_told(super().get_file, *arguments, **options))


class _Client(paramiko.SSHClient):
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._transport = link


def _told(act: Any, *arguments: Any, **options: Any) -> Any:
    """An end in the middle of whatever it was is a failure of the host's, which pyinfra knows as an SSHException and not as an EOFError."""
    try:
        return act(*arguments, **options)
    except EOFError:
        raise paramiko.SSHException(LOST) from None
