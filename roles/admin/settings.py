from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from roles.expiry import ExpirySettings
from roles.role import Endpoint, RoleSettings
from roles.server import Administration

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

SOCKET = "/run/paddock/admin.sock"
"""Where the reverse proxy of the same host reaches it."""


class AdminSettings(RoleSettings):
    """An endpoint that shows the router's presets, changes the context of a model, and restarts the servers of this host.

    It accepts requests from the fleet's reverse proxies only, and they forward only requests of clients with `admin: true`.
    """

    listen: Endpoint = "127.0.0.1:8079"
    """The listening address. Use loopback unless the reverse proxy is another host."""

    encrypted: bool = True
    """Let reverse proxies on other hosts reach it through an encrypted tunnel alone. With `false` its key is clear text on the network."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings before the tunnel's certificates expire."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield admin_key_name(host), f"key of {host}'s admin endpoint"

    def administration(self, host: str) -> Administration:
        return Administration(self.listen, SOCKET, admin_key_name(host), self.encrypted)

    def rehearsed(self, here: Rehearsal) -> tuple[AdminSettings, list[str]]:
        moved, told = here.moved(self)
        expiry, more = self.expiry.rehearsed(here)
        return moved.model_copy(update={"expiry": expiry}), [*told, *more]

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"llama_server": f"there is no llama_server on {host} to change: remove admin from this host"}


def admin_key_name(host: str) -> str:
    """The name of the secret that the fleet's reverse proxies send to it."""
    return f"admin.{host}"
