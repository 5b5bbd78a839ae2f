from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from roles.expiry import ExpirySettings
from roles.role import Account, Domain, Endpoint, Matches, Name, RoleSettings, Settings, address_of

Browser = Literal["chromium", "chrome", "brave", "brave-flatpak", "firefox"]

Home = Annotated[str, Matches(r"(?!.*/\.{0,2}(/|$))/[A-Za-z0-9/._@+-]*[A-Za-z0-9._@+-]", "is no absolute path of a home directory")]


def _loopback(value: str) -> str:
    if not ipaddress.ip_address(address_of(value)).is_loopback:
        raise ValueError(f"{value} is not loopback: whoever reaches it would be let in with this account's certificate")
    return value


class Seat(Settings):
    """One account of the host, and what its programs are given."""

    client: Name
    """Which of the fleet's clients it is."""

    home: Home | None = None
    """Its home directory; `/home/ACCOUNT` unless said."""

    site: Domain | None = None
    """The site that the bridge and pi use, where the client is let in by several."""

    browsers: tuple[Browser, ...] = ()
    """Browsers that are to present the certificate, without a question, and to trust the fleet's CA."""

    bridge: Annotated[Endpoint, AfterValidator(_loopback)] | None = None
    """Where programs of this account that know no client certificates reach the site, with a key: `127.0.0.1:8399`."""

    pi: bool = False
    """Whether the pi coding agent is given the fleet's models and the extension ai-server. Needs the bridge."""

    @model_validator(mode="after")
    def _pi_over_the_bridge(self) -> Seat:
        if self.pi and not self.bridge:
            raise ValueError("pi reaches the models over the bridge: say where that listens, such as bridge: 127.0.0.1:8399")
        return self


class ClientSettings(RoleSettings):
    """What the people who sit at this host need: for each account a client certificate, and programs that know of it."""

    accounts: dict[Account, Seat] = {}
    """The accounts, by name, each with what it is given."""

    expiry: ExpirySettings = ExpirySettings()
    """When the accounts' certificates near their end, and whom that is told."""

    def endpoints(self) -> Iterator[str]:
        for seat in self.accounts.values():
            if seat.bridge:
                yield seat.bridge


def home_of(account: str, seat: Seat) -> str:
    """Where the account is at home."""
    return seat.home or ("/root" if account == "root" else f"/home/{account}")


def bridge_key_name(host: str, account: str) -> str:
    """The name of the secret that an account's programs show to its bridge."""
    return f"bridge.{host}.{account}"
