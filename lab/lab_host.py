"""One lab host, a container or a virtual machine, and the way into it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from inventory.fleet import Host
from lab.cache import directory
from lab.mirror import SUITE

ADMIT = """
set -e
account() {
    getent group "$1" >/dev/null || groupadd "$1"
    id "$1" >/dev/null 2>&1 || useradd --create-home --gid "$1" --shell /bin/bash "$1"
}
account "$1"
for user in root "$1"; do
    home=$(getent passwd "$user" | cut -d: -f6) group=$(id -gn "$user")
    install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
    keys=$home/.ssh/authorized_keys
    grep -qxF "$2" "$keys" 2>/dev/null || echo "$2" >> "$keys"
    chown "$user:$group" "$keys" && chmod 600 "$keys"
done
[ "$1" = root ] || { umask 227 && echo "$1 ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/paddock-lab; }
for ca in /usr/local/share/ca-certificates/*.crt; do # as update-ca-certificates does, which takes a second
    link=/etc/ssl/certs/$(basename "$ca" .crt).pem
    [ ! -e "$ca" ] || [ -e "$link" ] || { ln -s "$ca" "$link"; { cat "$ca"; echo; } >>/etc/ssl/certs/ca-certificates.crt; }
done
shift 2
for each; do account "$each"; done
"""
"""Run as root in a host with a user and a public key: the user is made, may become root, and the key is let in for both. What follows are
accounts that are to be there too."""


def accounts(host: Host) -> tuple[str, ...]:
    """The accounts that the host's roles need."""
    return tuple(dict.fromkeys(each.name for settings in host.carried.values() for each in settings.required_accounts()))


def suite_of(host: Host) -> str:
    """The suite of Debian in the host's container: as its `lab` says, else what its roles need, else the lab's own."""
    needed = (each.suite_in_lab() for each in host.carried.values() if not host.lab.image)
    return host.lab.suite or next(filter(None, needed), SUITE)


TERMINAL_CONTROL = re.compile(r"\x1b\[[0-9;?!]*[A-Za-z]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[\r\x07]")
"""What a console's log has in it beside text."""


@dataclass(frozen=True)
class LabHost:
    """A lab host. What only a running one has, `address`, `network` and `host_key`, is empty in one that does not run."""

    fleet: str
    name: str
    container: str
    """What the container or the virtual machine is called: `paddock-home-ai`."""
    state: str
    """As Docker says it: `running`, `exited`."""
    user: str
    ssh_key: Path
    """The private key that it lets in."""
    address: str = ""
    network: str = ""
    """The network that all lab hosts of its kind share: `172.17.0.0/16`."""
    host_key: str = ""
    """Its SSH host key: `ssh-ed25519 AAAA…`."""
    port: int = 22
    """Where its sshd answers."""
    kind: str = "container"
    """What it is, in words: `container`, `container (sid)`, `virtual machine (x86-64 without AVX, kvm)`."""
    suite: str = SUITE
    """The suite of Debian that it runs."""
    listens: str = ""
    """Where its services are to listen to answer at `address`, where that is not `address`: a virtual machine does not have it itself."""


def ssh_command(host: LabHost) -> tuple[str, ...]:
    """How `ssh` is called for a lab host: with the lab's key, and with the host's key pinned."""
    known = known_hosts(host.container)
    known.write_text(f"{host.container} {host.host_key}\n")
    options = {
        "HostKeyAlias": host.container,
        "UserKnownHostsFile": str(known),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    return (
        *("ssh", "-F", "none", "-p", str(host.port), "-i", str(host.ssh_key)),
        *(f"-o{name}={value}" for name, value in options.items()),
        f"{host.user}@{host.address}",
    )


def known_hosts(container: str) -> Path:
    """The file in which the host's key is pinned."""
    return directory("known_hosts") / container


def sshd_answers(address: str, port: int = 22) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
