"""How pyinfra reaches a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Host


def connection(host: Host, known_hosts: Path) -> dict[str, Any]:
    """pyinfra's host data, where it connects by itself. Only pinned host keys are accepted.

    Raises PaddockError for a host behind a bastion.
    """
    if host.via:
        raise PaddockError(f"hosts.{host.name}.via: pyinfra by itself does not pass a bastion: use `paddock up`")
    data = {
        "ssh_hostname": host.address,
        "ssh_port": host.port,
        "ssh_user": host.user,
        "ssh_known_hosts_file": str(known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": host.becomes_root,
    }
    return {**data, "ssh_key": host.ssh_key} if host.ssh_key else data
