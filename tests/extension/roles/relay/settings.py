from __future__ import annotations

from collections.abc import Iterator

from roles.references import Finding, Whole
from roles.role import Account, Endpoint, Name, RequiredAccount, RoleSettings
from roles.wording import did_you_mean, quoted


class RelaySettings(RoleSettings):
    """Answers those that show its key: with the name of its host, or with what the relay of another host says."""

    listen: Endpoint = "127.0.0.1:8077"
    """Where it answers."""

    account: Account = "relay"
    """The account that it runs as, with a group of the same name."""

    upstream: Name | None = None
    """The host whose relay it asks. Without one it answers itself."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield relay_key_name(host), f"key of {host}'s relay"

    def required_accounts(self) -> Iterator[RequiredAccount]:
        yield RequiredAccount(self.account, "account", own_group=True)

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """The upstream is another host with this role."""
        relays = [name for name, roles in fleet.roles.items() if "relay" in roles and name != host]
        if self.upstream is not None and self.upstream not in relays:
            words = f"no other host with a relay is called {quoted(self.upstream)}{did_you_mean(self.upstream, relays)}"
            yield Finding(("roles", "relay", "upstream"), words, of_value=True)


def relay_key_name(host: str) -> str:
    """The name of the secret that a relay's callers show."""
    return f"relay.{host}"
