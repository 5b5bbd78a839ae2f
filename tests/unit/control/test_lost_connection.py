"""A host that ends its connection in the middle of a run is that host's failure, and no end of the run."""

import socket

import paramiko
import pytest
from paramiko.ssh_exception import SSHException

from control.ssh.run import LOST, _tell_end_as_failure


@pytest.mark.parametrize(("error", "told"), [(EOFError(), SSHException), (OSError("reset"), OSError), (None, type(None))])
def test_an_end_is_told_as_what_pyinfra_knows(error: Exception | None, told: type) -> None:
    here, there = socket.socketpair()
    with here, there:
        link = paramiko.Transport(here)
        link.saved_exception = error  # type: ignore[attr-defined]
        _tell_end_as_failure(link)
        found = link.get_exception()
        assert isinstance(found, told)
        assert told is not SSHException or str(found) == LOST
