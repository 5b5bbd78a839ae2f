"""The models that a gateway offers, as its service is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.gateway.settings import GatewaySettings
from roles.offer import Offered
from roles.preset import OFF, ON, Preset
from roles.wording import quoted


def configured(host: str, settings: GatewaySettings, models: Sequence[Offered], fleet: Fleet) -> dict[str, Any]:
    """Public name → what the service is to know of the model. Raises PaddockError where a server does not show its slots."""
    where, found = f"hosts.{host}.roles.gateway", dict[str, Any]()
    for offer in models:
        for each in offer.servers:
            if words := _hides_slots(fleet.preset(each, offer.model)):
                raise PaddockError(f"{where}: {offer.model} on {each.host}: {words}")
        found[offer.name] = {
            "targets": [{"backend": f"{each.host}/{each.name}", "model": offer.model} for each in offer.servers or offer.images],
            "aliases": list(offer.aliases),
            "limits": offer.limits.model_dump(),
            "context": min((_context(fleet.preset(each, offer.model)) for each in offer.servers), default=0),
        }
        if not offer.servers:
            found[offer.name]["image_size"] = offer.images[0].models[offer.model]
    names = [name for offer in models for name in (offer.name, *offer.aliases)]
    if settings.pi and settings.pi.model and settings.pi.model not in names:
        raise PaddockError(f"{where}.pi.model: no public name is {quoted(settings.pi.model)}: it has {', '.join(names)}")
    return found


def _hides_slots(preset: Preset) -> str:
    """Why its slots could not be given out, and what to do; empty where they can."""
    for option, value in preset.items():
        if (option == "slots" and str(value).lower() in OFF) or (option == "no-slots" and str(value).lower() in ON):
            return "the gateway gives out the server's slots, and without `slots` it cannot see them: leave it out"
    return ""


def _context(preset: Preset) -> int:
    """Tokens that a conversation may have; 0 where the preset does not say it. Slots share one context where they are `kv-unified`."""
    said: dict[str, int] = {}
    for option, name in (("ctx-size", "context"), ("c", "context"), ("parallel", "slots"), ("np", "slots")):
        value = preset.get(option)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            said[name] = value
    unified = any(str(preset.get(option)).lower() in ON for option in ("kv-unified", "kvu"))
    return said.get("context", 0) // (1 if unified else said.get("slots", 1))
