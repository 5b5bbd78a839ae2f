"""Whose key a host shows: the inventory's, or one that a person has looked at once."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence

from paramiko import SSHException, Transport

import control.ssh.packets
from control.ssh.failures import no_way_to
from control.state.fleet import FleetState
from inventory.fleet import Host
from resources import lines_of

assert control.ssh.packets

SCAN_TIMEOUT_S = 15
SCANS_AT_ONCE = 16


def pin_all(hosts: Iterable[Host], state: FleetState, ask: Callable[[str], bool]) -> dict[str, str]:
    """Pins what the inventory says, and what `ask` lets in of hosts met for the first time. Gives host → why not, of the others."""
    failures, met = {}, []
    for host in hosts:
        pinned = state.pinned(host.name)
        if wanted := " ".join(host.host_key.split()[:2]) if host.host_key else pinned:
            if pinned != wanted or not _at(host, state):  # a host that has moved shows the same key elsewhere
                state.pin(host.name, host.address, host.port, wanted)
        else:
            met.append(host)
    for host, key in _shown(met):
        if isinstance(key, Exception):
            failures[host.name] = no_way_to(host, key)
        elif ask(f"{host.name}: {host.address} shows the key {key.split()[0]} {fingerprint(key)}. Is that the host's?"):
            state.pin(host.name, host.address, host.port, key)
        else:
            failures[host.name] = (
                f"its host key was not accepted ({fingerprint(key)}): if it is the right one, "
                f"let `paddock up` ask, or set `host_key: {key}` in the inventory"
            )
    return failures


def _shown(hosts: Sequence[Host]) -> Iterator[tuple[Host, str | Exception]]:
    """Each host with its key, or why it shows none; all are asked at a time, since one that does not answer takes its time."""
    if hosts:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(SCANS_AT_ONCE) as pool:
            keys = list(pool.map(_key_or_error, hosts))
        yield from zip(hosts, keys, strict=True)  # who answers a question slowly keeps no host waiting that is asked


def _key_or_error(host: Host) -> str | Exception:
    try:
        return scan(host)
    except (OSError, SSHException, EOFError) as error:
        return error


def _at(host: Host, state: FleetState) -> bool:
    """Whether the pin is for the host's present address."""
    where = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    try:
        lines = lines_of(state.known_hosts.read_text())
    except UnicodeDecodeError:  # paramiko would read none of it: to pin the host anew makes it text again
        return False
    return any(line.split()[:1] == [where] and line.endswith(f" {host.name}") for line in lines)


def scan(host: Host) -> str:
    """The key that a host shows, as `ssh-ed25519 AAAA…`. Raises OSError, SSHException or EOFError where it shows none."""
    transport = None
    try:
        transport = Transport(socket.create_connection((host.address, host.port), timeout=SCAN_TIMEOUT_S))
        transport.start_client(timeout=SCAN_TIMEOUT_S)
        key = transport.get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"
    finally:
        if transport:
            transport.close()


def fingerprint(key: str) -> str:
    """As `ssh-keygen -l` prints it: `SHA256:` and the digest in base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key.split()[1])).digest()).decode().rstrip("=")
