"""How pyinfra reaches a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inventory.fleet import Host


def connection(host: Host, known_hosts: Path) -> dict[str, Any]:
    """pyinfra's host data. Only pinned host keys are accepted."""
    data = {
        "ssh_hostname": host.address,
        "ssh_port": host.port,
        "ssh_user": host.user,
        "ssh_known_hosts_file": str(known_hosts),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": host.becomes_root,
    }
    return {**data, "ssh_key": host.ssh_key} if host.ssh_key else data
