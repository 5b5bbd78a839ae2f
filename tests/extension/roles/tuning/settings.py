from __future__ import annotations

from roles.role import RoleSettings


class TuningSettings(RoleSettings):
    """Parameters of the kernel that differ from the distribution's."""

    sysctls: dict[str, int] = {}
    """Parameter → value: `{net.ipv4.tcp_keepalive_time: 600}`."""
