"""The keys that a machine is offered, in the order of ssh: those of the agent that are meant, its others, then key files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from paramiko import PasswordRequiredException, PKey, SSHException
from paramiko.agent import AgentKey, AgentSSH

from control.ssh.ways import Way

ANSWER_S = 5


class Agent(AgentSSH):
    """The agent at a socket; without keys where nobody answers there."""

    def __init__(self, path: str) -> None:
        super().__init__()
        with suppress(OSError, SSHException):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(ANSWER_S)
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
            connection.settimeout(None)  # a FIDO key waits until it is touched


def offered(way: Way) -> Iterator[PKey]:
    """What the machine is offered, one key after another."""
    held, meant = agent_keys(way.agent), [public_half(Path(each)) for each in way.keys]
    first = [key for public in meant for key in held if key.get_base64() == public]
    yield from first
    if not way.only_keys:
        yield from (key for key in held if key not in first)
    for path, public in zip(way.keys, meant, strict=True):
        if not any(key.get_base64() == public for key in first):
            with suppress(Exception):  # it may be anything, and ssh passes over it too
                yield PKey.from_path(path)  # with the certificate beside it


def agent_keys(agent: str) -> tuple[AgentKey, ...]:
    """`agent` as in `Way`."""
    path = agent if "/" in agent else os.environ.get(agent.removeprefix("$").strip("{}"), "")
    return tuple(Agent(path).get_keys()) if path else ()


def public_half(key: Path) -> str:
    """In base64, as the file beside the key has it; empty where there is none."""
    try:
        return key.with_name(f"{key.name}.pub").read_text().split()[1]
    except (OSError, ValueError, IndexError):
        return ""


def unusable(way: Way) -> str | None:
    """Why the key that the inventory names is of no use, in words; None where it is well, or none is named."""
    if not way.own_key:
        return None
    key = Path(way.keys[0])
    public = public_half(key)
    if public and any(each.get_base64() == public for each in agent_keys(way.agent)):
        return None  # then the file need not be opened, and may have a passphrase
    try:
        PKey.from_path(key)
    except OSError as error:
        return f"the key {key} cannot be read ({error.strerror}): name the right one with `ssh_key:`"
    except (PasswordRequiredException, TypeError):  # the second is cryptography's word for a passphrase that is missing
        return f"the key {key} has a passphrase: hand it to your SSH agent first, with `ssh-add {key}`"
    except Exception:  # cryptography has several words for what it does not read
        if _is_of_token(key):
            return f"the key {key} lies in a FIDO token: hand it to your SSH agent first, with `ssh-add {key}`"
        return f"{key} is not a private key: name the right one with `ssh_key:`"
    return None


def _is_of_token(key: Path) -> bool:
    public = key.with_name(f"{key.name}.pub")
    return public.is_file() and public.read_bytes().startswith(b"sk-")
