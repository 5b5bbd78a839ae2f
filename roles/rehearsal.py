"""A lab host, as a role sees it whose settings are to fit there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from roles.role import ENDPOINT, InterfaceEndpoint, Settings, address_of, interface_of, port_of

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Rehearsal:
    """The host and the role that are rehearsed, and what the lab host is like."""

    host: str
    role: str
    listens: str
    """The address that services of the lab host listen on to be reached."""
    domain: str
    """The domain to which the fleet's certificates are limited."""
    notify: str = 'logger --tag paddock-notify "$PADDOCK_HOST $PADDOCK_SERVER $PADDOCK_UNIT, as $(id -un): $PADDOCK_FAULT"'
    """What a role runs here to tell somebody: nobody is to be woken by what happens in a lab."""

    def moved(self, settings: S, key: str = "") -> tuple[S, list[str]]:
        """The settings with what listens on an address of the real machine moved to the lab host's.

        `key` is where they stand in the inventory, the role itself unless said: `llama_server.instances.chat`.
        """
        update = {field: self.there(endpoint) for field, endpoint in _concrete_endpoints(settings)}
        told = [
            f"{self.host}: {key or self.role}.{field} is {new} in place of {getattr(settings, field)}." for field, new in update.items()
        ]
        return settings.model_copy(update=update), told

    def there(self, endpoint: str) -> str:
        """The same port, on the lab host; an endpoint on loopback or on every address as it is."""
        address = f"[{self.listens}]" if ":" in self.listens else self.listens
        return f"{address}:{port_of(endpoint)}" if _is_concrete(endpoint) else endpoint

    def told_quietly(self, key: str) -> str:
        """The sentence for a key, `notify`, that has the `notify` of here."""
        return f"{self.host}: {self.role}.{key} writes only to the host's journal (journalctl -t paddock-notify)."


def _concrete_endpoints(settings: Settings) -> Iterator[tuple[str, str]]:
    """The fields that listen on one address of the real machine, which a lab host does not have."""
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if isinstance(value, str) and (ENDPOINT.fullmatch(value) or _may_be_interface(settings, field)) and _is_concrete(value):
            yield field, value


def _may_be_interface(settings: Settings, field: str) -> bool:
    kinds = getattr(InterfaceEndpoint, "__metadata__", ())
    return any(each in type(settings).model_fields[field].metadata for each in kinds)


def _is_concrete(endpoint: str) -> bool:
    if interface_of(endpoint):
        return True
    address = ipaddress.ip_address(address_of(endpoint))
    return not address.is_loopback and not address.is_unspecified
