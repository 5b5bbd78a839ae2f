"""The models that a gateway offers, each with the servers that answer, and what of a server's preset keeps users apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.gateway.settings import GatewaySettings, PublicModel
from roles.preset import OFF, ON, Preset
from roles.server import ImageServer, Server
from roles.wording import quoted

CACHES = ("cache-ram", "cram")
"""The cache of prompts in memory. llama-server may restore another's conversation from it (ggml-org/llama.cpp#27148)."""

IDLE = "cache-idle-slots"
"""Puts what an idle slot holds into that cache."""


def configured(host: str, settings: GatewaySettings, servers: Sequence[Server], fleet: Fleet) -> dict[str, Any]:
    """Public name → what the service is to know of the model. Raises PaddockError where a name would be that of two, or a server keeps what
    its callers say."""
    where, found, taken = f"hosts.{host}.roles.gateway", dict[str, Any](), dict[str, str]()
    images = fleet.image_servers_behind(settings.upstream or host)
    for name, entry in (settings.models or _all(servers, images, fleet)).items():
        model = entry.model or name
        answering = tuple(each for each in servers if model in each.models and _is_among(each, entry, fleet))
        making = tuple(each for each in images if model in each.models and _makes(each, entry, fleet))
        if not answering and not making:
            raise PaddockError(f"{where}.models.{name}: no llama-server behind it serves {model}")
        for each in answering:
            if words := _mixes(fleet.preset(each, model)):
                raise PaddockError(f"{where}: {model} on {each.host}: {words}")
        for public in (name, *entry.aliases):
            if (other := taken.setdefault(public, name)) != name:
                raise PaddockError(f"{where}.models: {quoted(public)} would be {name} and {other}: give each name to one model")
        found[name] = {
            "targets": [{"backend": f"{each.host}/{each.name}", "model": model} for each in answering or making],
            "aliases": list(entry.aliases),
            "limits": entry.limits.model_dump(),
            "context": min((_context(fleet.preset(each, model)) for each in answering), default=0),
        }
        if not answering:
            found[name]["image_size"] = making[0].models[model]
    if settings.pi and settings.pi.model and settings.pi.model not in taken:
        raise PaddockError(f"{where}.pi.model: no public name is {quoted(settings.pi.model)}: it has {', '.join(taken)}")
    return found


def _all(servers: Sequence[Server], images: Sequence[ImageServer], fleet: Fleet) -> Mapping[str, PublicModel]:
    """Each model that a server has, under its own name and aliases, and each that makes images."""
    names = dict.fromkeys(model for each in servers for model in each.models)
    text = {name: PublicModel(aliases=fleet.models[name].aliases) for name in names}
    return text | {model: PublicModel() for each in images for model in each.models if model not in text}


def _is_among(server: Server, entry: PublicModel, fleet: Fleet) -> bool:
    return entry.upstream is None or server in fleet.every_behind(entry.upstream)


def _makes(server: ImageServer, entry: PublicModel, fleet: Fleet) -> bool:
    return entry.upstream is None or server in fleet.image_servers_behind(entry.upstream)


def _mixes(preset: Preset) -> str:
    """Why users would not be kept apart, or could not be given slots, and what to do; empty where they are."""
    return next(_faults(preset), "")


def _faults(preset: Preset) -> Iterator[str]:
    for option, value in preset.items():
        if (option in CACHES and str(value) != "0") or (option == IDLE and str(value).lower() in ON):
            yield f"{quoted(option)} keeps what one user has said, and may give it to another: leave it out behind a gateway"
        if (option == "slots" and str(value).lower() in OFF) or (option == "no-slots" and str(value).lower() in ON):
            yield "the gateway gives out the server's slots, and without `slots` it cannot see them: leave it out"


def _context(preset: Preset) -> int:
    """Tokens that a conversation may have; 0 where the preset does not say it. Slots share one context where they are `kv-unified`."""
    said: dict[str, int] = {}
    for option, name in (("ctx-size", "context"), ("c", "context"), ("parallel", "slots"), ("np", "slots")):
        value = preset.get(option)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            said[name] = value
    unified = any(str(preset.get(option)).lower() in ON for option in ("kv-unified", "kvu"))
    return said.get("context", 0) // (1 if unified else said.get("slots", 1))
