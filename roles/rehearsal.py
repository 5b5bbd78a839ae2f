"""A lab host, as a role sees it whose settings are to fit there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from roles.role import ENDPOINT, InterfaceEndpoint, Settings, address_of, interface_of, port_of

S = TypeVar("S", bound=Settings)
V = TypeVar("V")

CARDS = frozenset(("dev", "device", "devd", "device-draft", "spec-draft-device", "mmdev", "mmproj-device"))
MOVED = frozenset(("ot", "override-tensor", "otd", "override-tensor-draft", "spec-draft-override-tensor"))

NO_CARD = "there is no card, and nothing to draft with."


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
    without: frozenset[str] = frozenset()
    """The models of image servers that are left out."""
    left_out: frozenset[tuple[str, str]] = frozenset()
    """The roles that are left out, each behind its host: `("prod", "langfuse")`."""

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

    def on_the_processor(self, preset: Mapping[str, V], key: str = "") -> tuple[dict[str, V], list[str]]:
        """A preset as `on_the_processor` has it, and what to tell of it. `key` is as for `moved`."""
        kept = on_the_processor(preset)
        gone = ", ".join(option for option in preset if option not in kept)
        return kept, [f"{self.host}: {key or self.role}.preset is without {gone}: {NO_CARD}"] if gone else []

    def told_quietly(self, key: str) -> str:
        """The sentence for a key, `notify`, that has the `notify` of here."""
        return f"{self.host}: {self.role}.{key} writes only to the host's journal (journalctl -t paddock-notify)."


def on_the_processor(preset: Mapping[str, V]) -> dict[str, V]:
    """What of a preset llama-server takes where there is no card, and the model is a tiny one that has nothing to draft with."""
    return {option: value for option, value in preset.items() if not _needs_a_card(option, str(value))}


def _needs_a_card(option: str, value: str) -> bool:
    if option in MOVED:
        return any(each.rpartition("=")[2] != "CPU" for each in value.split(","))
    named = option in CARDS and value != "none"
    cached = option == "moe-cache-mib" and value != "0"
    return named or cached or (option in ("sm", "split-mode") and value == "tensor") or (option == "spec-type" and "draft-" in value)


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
