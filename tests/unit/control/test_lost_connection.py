"""A host that ends its connection in the middle of a run is that host's failure, and no end of the run."""

import socket

import pytest

from control.ssh.links import Link  # isort: skip - first of all, for gevent
from paramiko.ssh_exception import SSHException

from control.ssh.failures import LOST


@pytest.mark.parametrize(("error", "told"), [(EOFError(), SSHException), (OSError("reset"), OSError), (None, type(None))])
def test_an_end_is_told_as_what_pyinfra_knows(error: Exception | None, told: type, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    with here, there:
        link = Link(here)
        monkeypatch.setattr(link, "is_authenticated", lambda: True)
        link.saved_exception = error  # type: ignore[attr-defined]
        found = link.get_exception()
        assert isinstance(found, told)
        assert told is not SSHException or str(found) == LOST
