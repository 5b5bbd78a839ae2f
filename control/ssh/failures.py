"""Why a host failed, in words."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from paramiko.ssh_exception import AuthenticationException, SSHException

from control.ssh import apt_words
from control.ssh.ways import Way
from resources.lease import lost_to

LINES_SHOWN = 15
"""Of what a host said before it failed; a build sends fourteen."""

LOST = "the connection was lost; what was at work there may go on: run the same again, it takes up from there"

KILLED = "what was at work there was killed: run the same again, it takes up from there"

FULL = "paddock-full: "
"""Before each file system that had no room when a host failed (resources/base.sh)."""

UNTOLD = "I/O error"
"""What a shell says of a disk that is full, and of one that is broken."""

MARKS = ("paddock-at: ", "paddock-does: ")
"""Before the resource that a host was at when it failed, and before each that it begins with (resources/base.sh)."""

ADVICE: Mapping[type[BaseException], str] = {
    ConnectionRefusedError: "does sshd run there, and is `port:` right?",
    TimeoutError: "is the machine on, and does no firewall stand in between?",
    SSHException: "is it sshd that listens there, and is `port:` right?",
    EOFError: "is it sshd that listens there, and does it let this machine in?",
}


class NotPinned(SSHException):
    """Nobody has looked at the machine's host key."""


class WrongKey(SSHException):
    """The machine shows another host key than the pinned one."""


class NoKey(SSHException):
    """The key that the inventory names is of no use; the text says why, and what to do."""


class Refused(SSHException):
    """The machine wants something else than a key; the text says what."""


class Barred(SSHException):
    """A bastion or a ProxyCommand does not lead to the machine; the text says why."""


class NoWay(Exception):
    """There is no connection to the machine at `way`, which may be a bastion on the way to another."""

    def __init__(self, way: Way, error: Exception) -> None:
        super().__init__(str(error))
        self.way, self.error = way, error


def last_words(lines: Sequence[str], doing: str) -> str:
    """What was wrong: in one line with the resource that was at work, then the lines that led to it.

    A host says what was wrong last; apt and dpkg say it further up. One that was killed begins a resource and never ends it.
    """
    if lost := lost_to(lines):
        return lost
    ended, began = (any(line.startswith(mark) for line in lines) for mark in MARKS)
    if began and not ended:
        return f"{at_work(lines, doing)}: {KILLED}"
    said = [line.rstrip() for line in lines if line.strip() and not line.startswith((*MARKS, FULL))]
    main = apt_words.complaint(said) or (said[-1].strip() if said else "failed, and said nothing")
    full = " and ".join(line.removeprefix(FULL) for line in lines if line.startswith(FULL))
    if full and os.strerror(errno.ENOSPC) not in main:
        main = f"{'it could not be written' if main.endswith(UNTOLD) else main}: no room is left on {full}: make some there"
    return "\n".join([f"{at_work(lines, doing)}: {main}", *(f"    {line}" for line in said[-LINES_SHOWN:] if line.strip() != main)])


def at_work(lines: Sequence[str], doing: str) -> str:
    """The resource: what a host ends with, or what apt complains about, or what the host began with last. `doing` names what has none of
    these.
    """
    ended, began = ([line.removeprefix(mark) for line in lines if line.startswith(mark) and line != mark] for mark in MARKS)
    package = apt_words.package(lines)
    return next(iter(ended[-1:]), f"package:{package}" if package else next(iter(began[-1:]), doing))


def unreachable(way: Way, error: NoWay, known_hosts: Path) -> str:
    """Why there is no way to a machine, and what to do about it."""
    words = _why(error.way, error.error, known_hosts)
    return words if error.way == way else f"the way there ends at {error.way.where}: {words}"


def _why(way: Way, error: Exception, known_hosts: Path) -> str:
    if isinstance(error, WrongKey):
        mend = "set `host_key:` anew" if way.key_in_inventory else f"take the line that ends with `{way.name}` out of {known_hosts}"
        refused = "does not present the pinned host key, so nothing was sent: this may be a man-in-the-middle attack"
        return f"{way.where} {refused}. If you know why it changed, {mend}"
    if isinstance(error, NotPinned):
        or_set = ", or set `host_key:` in the inventory" if way.in_fleet else ""
        return f"its SSH host key is not pinned: `paddock up` shows it and asks{or_set} ({way.where})"
    if isinstance(error, NoKey):
        return str(error)
    if isinstance(error, Refused):
        return f"{way.where} lets nobody in so: {error}"
    if isinstance(error, AuthenticationException):
        key = f"the key {way.keys[0]}" if way.own_key else "the keys of your agent and ~/.ssh"
        named = "name the right one with `ssh_key:`" if way.in_fleet else "name the right one with `IdentityFile` in ~/.ssh/config"
        return f"{way.where} refused {key}: {named}, or add its public half to the account's authorized_keys"
    return no_way_to(way, error)


def no_way_to(way: Way, error: BaseException) -> str:
    """What the network said instead of an answer, and what to do about it."""
    if isinstance(error, socket.gaierror):
        return f"the name {way.address} does not resolve: set `address:` to an IP address, or mend your DNS"
    if isinstance(barred := error if isinstance(error, Barred) else error.__context__, Barred):
        return f"{way.where} cannot be reached: {barred}"
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    advice = next((words for kind, words in ADVICE.items() if isinstance(error, kind)), "")
    if isinstance(error, EOFError):
        said = "it closed the connection"
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        advice = "is the machine on, and is `address:` right?"
    return f"{way.where} cannot be reached: {said}{advice and f'; {advice}'}"
