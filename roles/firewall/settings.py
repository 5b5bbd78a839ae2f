from __future__ import annotations

from roles.role import RoleSettings


class FirewallSettings(RoleSettings):
    """An nftables table of Paddock's own: who may reach the ports that the inventory declares here. It never touches any other port, SSH
    least of all."""
