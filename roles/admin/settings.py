from __future__ import annotations

from collections.abc import Iterator

from roles.role import Endpoint, RoleSettings


class AdminSettings(RoleSettings):
    """An endpoint that shows the router's presets, changes the context of one, and restarts the servers of this host.

    It answers the fleet's reverse proxies alone, and those pass on to it who is a client with `admin: true`.
    """

    listen: Endpoint = "127.0.0.1:8079"
    """Where it answers. Loopback unless the reverse proxy is another host."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen


def admin_key_name(host: str) -> str:
    """The name of its secret, which the reverse proxies of the fleet know."""
    return f"admin.{host}"
