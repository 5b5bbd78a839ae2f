"""Why a host failed, in words."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from paramiko.ssh_exception import NoValidConnectionsError, SSHException

from control.ssh import apt_words
from inventory.fleet import Host

LINES_SHOWN = 15
"""Of what a host said before it failed; a build sends fourteen."""

LOST = "the connection was lost; what was at work there may go on: run `paddock up` again, it takes up from there"

KILLED = "what was at work there was killed: run `paddock up` again, it takes up from there"

MARKS = ("paddock-at: ", "paddock-does: ")
"""Before the resource that a host was at when it failed, and before each that it begins with (resources/base.sh)."""

ADVICE: Mapping[type[BaseException], str] = {
    ConnectionRefusedError: "does sshd run there, and is `port:` right?",
    TimeoutError: "is the machine on, and does no firewall stand in between?",
    SSHException: "is it sshd that listens there, and is `port:` right?",
}


def last_words(lines: Sequence[str], doing: str) -> str:
    """What was wrong: in one line with the resource that was at work, then the lines that led to it.

    A host says what was wrong last; apt and dpkg say it further up. One that was killed begins a resource and never ends it.
    """
    ended, began = (any(line.startswith(mark) for line in lines) for mark in MARKS)
    if began and not ended:
        return f"{at_work(lines, doing)}: {KILLED}"
    said = [line.rstrip() for line in lines if line.strip() and not line.startswith(MARKS)]
    main = apt_words.complaint(said) or (said[-1].strip() if said else "failed, and said nothing")
    return "\n".join([f"{at_work(lines, doing)}: {main}", *(f"    {line}" for line in said[-LINES_SHOWN:] if line.strip() != main)])


def at_work(lines: Sequence[str], doing: str) -> str:
    """The resource: what a host ends with, or what apt complains about, or what the host began with last. `doing` names what has none of
    these.
    """
    ended, began = ([line.removeprefix(mark) for line in lines if line.startswith(mark) and line != mark] for mark in MARKS)
    package = apt_words.package(lines)
    return next(iter(ended[-1:]), f"package:{package}" if package else next(iter(began[-1:]), doing))


def unreachable(host: Host, error: Exception, known_hosts: Path) -> str:
    """What pyinfra could not connect for, and what to do about it."""
    where, words = f"{host.user}@{host.address}:{host.port}", str(error)
    if "host key error" in words or "does not match" in words:
        mend = "set `host_key:` anew" if host.host_key else f"take the line that ends with `{host.name}` out of {known_hosts}"
        refused = "does not present the pinned host key, so nothing was sent: this may be a man-in-the-middle attack"
        return f"{where} {refused}. If you know why it changed, {mend}"
    if "No host key" in words:
        return f"its SSH host key is not pinned: `paddock up` shows it and asks, or set `host_key:` in the inventory ({where})"
    if "Authentication" in words:
        key = f"the key {host.ssh_key}" if host.ssh_key else "the keys of your agent and ~/.ssh"
        return f"{where} refused {key}: name the right one with `ssh_key:`, or add its public half to the account's authorized_keys"
    return no_way_to(host, error.__context__ or error)


def no_way_to(host: Host, error: BaseException) -> str:
    """What the network said instead of an answer, and what to do about it."""
    if isinstance(error, socket.gaierror):
        return f"the name {host.address} does not resolve: set `address:` to an IP address, or mend your DNS"
    if isinstance(error, NoValidConnectionsError):  # a name may have several addresses
        error = next(iter(error.errors.values()))
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    advice = next((words for kind, words in ADVICE.items() if isinstance(error, kind)), "")
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        advice = "is the machine on, and is `address:` right?"
    return f"{host.user}@{host.address}:{host.port} cannot be reached: {said}{advice and f'; {advice}'}"
