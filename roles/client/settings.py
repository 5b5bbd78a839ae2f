from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from roles.expiry import ExpirySettings
from roles.role import UNPRIVILEGED_PORT, Account, Domain, Endpoint, Matches, Name, RequiredAccount, RoleSettings, Settings

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal
from roles.references import Finding, Whole
from roles.role import address_of, is_privileged, port_of
from roles.upstream import FRONTS, OfFront, front
from roles.wording import did_you_mean, quoted

Browser = Literal["chromium", "chrome", "brave", "brave-flatpak", "firefox"]

Home = Annotated[str, Matches(r"(?!.*/\.{0,2}(/|$))/[A-Za-z0-9/._@+-]*[A-Za-z0-9._@+-]", "is not an absolute path of a home directory")]


def _bridge(value: str) -> str:
    if not ipaddress.ip_address(address_of(value)).is_loopback:
        raise ValueError(f"{value} is not loopback: any caller could use this account's certificate")
    if is_privileged(value):
        raise ValueError(f"port {port_of(value)} is root's to open: use one from {UNPRIVILEGED_PORT} up, such as 127.0.0.1:8399")
    return value


class Seat(Settings):
    """An account of the host and the set-up of its programs."""

    client: Name
    """The client whose certificate the account presents."""

    home: Home | None = None
    """The home directory; by default `/home/ACCOUNT`."""

    site: Domain | None = None
    """The site that the bridge and pi use, if several sites admit the client."""

    browsers: tuple[Browser, ...] = ()
    """Browsers to set up: they present the certificate without asking and trust the fleet's CA."""

    bridge: Annotated[Endpoint, AfterValidator(_bridge)] | None = None
    """The listening address of a bridge for programs without client certificates: `127.0.0.1:8399`. It forwards to the site and needs a
    key."""

    pi: bool = False
    """Give the pi coding agent the fleet's models and the extension ai-server. Needs the bridge."""

    @model_validator(mode="after")
    def _pi_over_the_bridge(self) -> Seat:
        if self.pi and not self.bridge:
            raise ValueError("pi needs the bridge: set its address, such as bridge: 127.0.0.1:8399")
        return self


class ClientSettings(RoleSettings):
    """Client certificates for accounts of this host, and programs that use them."""

    accounts: dict[Account, Seat] = {}
    """The accounts, by name."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings about the accounts' certificates that are about to expire."""

    def endpoints(self) -> Iterator[str]:
        for seat in self.accounts.values():
            if seat.bridge:
                yield seat.bridge

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        for account, seat in self.accounts.items():
            if seat.bridge:
                yield bridge_key_name(host, account), f"key of {account}'s bridge on {host}"

    def required_accounts(self) -> Iterator[RequiredAccount]:
        """An account's files are its group's."""
        return (RequiredAccount(account, f"accounts.{account}", own_group=True) for account in self.accounts)

    def identities(self) -> Iterator[tuple[str, str]]:
        return ((account, seat.client) for account, seat in self.accounts.items())

    def rehearsed(self, here: Rehearsal) -> tuple[ClientSettings, list[str]]:
        """The accounts are made, where the lab host does not have them, with a home where homes are."""
        moved, told = here.moved(self)
        expiry, quietly = self.expiry.rehearsed(here)
        seats = {account: seat.model_copy(update={"home": None}) for account, seat in self.accounts.items()}
        homes = [
            f"{here.host}: the home of {account} is where the lab has it, in place of {seat.home}."
            for account, seat in self.accounts.items()
            if seat.home is not None
        ]
        return moved.model_copy(update={"expiry": expiry, "accounts": seats}), [*told, *quietly, *homes]

    def verified(self, clients: frozenset[str]) -> Self:
        """A client that is thrown out has no seat."""
        return self.model_copy(update={"accounts": {account: seat for account, seat in self.accounts.items() if seat.client in clients}})

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """An account's client is one of the fleet's, a site lets it in, and where several do, `site` names the bridge's."""
        for account, seat in self.accounts.items():
            keys = ("roles", "client", "accounts", account)
            yield from fleet.no_client(seat.client, (*keys, "client"))
            if fleet.has_client(seat.client) and "caddy" not in fleet.malformed:
                yield from _site_of(account, seat, keys, fleet)
        if words := self.expiry.too_early(fleet.days[seat.client] for seat in self.accounts.values() if seat.client in fleet.days):
            yield Finding(("roles", "client", "expiry", "days"), words, of_value=True)


def _site_of(account: str, seat: Seat, keys: tuple[str, ...], fleet: Whole) -> Iterator[Finding]:
    admitting = fleet.admitting.get(seat.client, ())
    if not admitting:
        words = f"no site of the fleet admits {quoted(seat.client)}: add it to the clients of a site, or give {account} another client"
        yield Finding((*keys, "client"), words, of_value=True)
    elif seat.site and seat.site not in fleet.entrances:
        words = f"no site is called {quoted(seat.site)}{did_you_mean(seat.site, fleet.entrances)}"
        yield Finding((*keys, "site"), words, of_value=True)
    elif seat.site and seat.site not in admitting:
        words = f"{seat.site} does not admit {quoted(seat.client)}, but {' and '.join(admitting)} would"
        yield Finding((*keys, "site"), words, of_value=True)
    elif seat.bridge and not seat.site and len(admitting) > 1:
        words = f"{quoted(seat.client)} is admitted by {', '.join(admitting)}: choose one of them for the bridge with site"
        yield Finding((*keys, "bridge"), words)
    elif seat.bridge and isinstance(upstream := fleet.entrances[at := seat.site or admitting[0]][0].site.upstream, OfFront):
        to = FRONTS[front(upstream)[0]]
        words = f"{at} leads to {to}, which asks each user for a key, and a bridge shows none: leave bridge out, and call the site itself"
        yield Finding((*keys, "bridge"), words)


def home_of(account: str, seat: Seat) -> str:
    """The account's home directory."""
    return seat.home or ("/root" if account == "root" else f"/home/{account}")


def bridge_key_name(host: str, account: str) -> str:
    """The name of the secret that an account's programs send to its bridge."""
    return f"bridge.{host}.{account}"
