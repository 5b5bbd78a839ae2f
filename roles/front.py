"""What stands before llama-servers for users, whichever program it is: the names that it gives to models, and who is behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from roles.ends import leads_nowhere
from roles.references import Finding, Whole
from roles.role import Matches, Settings
from roles.upstream import Upstream
from roles.users import UserLimits
from roles.wording import quoted

PEPPER = "gateway-pepper"
"""The secret without which nobody can tell a key by what is kept of it. One of the fleet, for gateways may share a database."""


PublicName = Annotated[
    str, Matches(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", "is not a name for a model: letters, digits, and . _ - : / @ +")
]


class PublicModel(Settings):
    """A model as users name it."""

    model: str | None = None
    """Its name in the fleet's `models`; by default the same."""

    upstream: Upstream | None = None
    """The llama-servers that answer, out of the gateway's; by default all that serve the model."""

    aliases: tuple[PublicName, ...] = ()
    """Other names that users may use: `[default, qwen-3b.Q4_0.gguf]`."""

    limits: UserLimits = UserLimits()
    """What all users together may ask of it."""


def taken_names(models: Mapping[str, PublicModel]) -> Mapping[str, str]:
    """Every name by which users may ask, with the model's. Raises ValueError where two models have one."""
    taken: dict[str, str] = {}
    for name, entry in models.items():
        for each in (name, *entry.aliases):
            if (other := taken.setdefault(each, name)) != name:
                raise ValueError(f'models: "{each}" would be {name} and {other}: give each name to one model')
    return taken


def offers_nothing(
    role: str, host: str, upstream: Upstream | None, models: Mapping[str, PublicModel], fleet: Whole, *, images: bool = False
) -> Iterator[Finding]:
    """Why a role's upstream leads nowhere, or a model of it is nobody's; nothing where all are served, by servers of `images` too where
    these count."""
    at = ("roles", role)
    nowhere = list(leads_nowhere(upstream or host, host, fleet, every=True))
    for keys, words in nowhere:
        if upstream:
            yield Finding((*at, "upstream", *keys), words, of_value=True)
        else:
            yield Finding(at, f"{words}: name llama-servers of other hosts in upstream, or add the role llama_server to {host}")
    for name, entry in models.items() if not nowhere else ():
        if images and any((entry.model or name) in each.models for each in fleet.image_servers_behind(entry.upstream or upstream or host)):
            continue
        yield from _is_served(role, host, upstream, name, entry, fleet)


def _is_served(role: str, host: str, upstream: Upstream | None, name: str, entry: PublicModel, fleet: Whole) -> Iterator[Finding]:
    keys, model = ("roles", role, "models", name), entry.model or name
    found = list(fleet.no_model(model, (*keys, "model") if entry.model else keys))
    yield from (each._replace(of_value=bool(entry.model)) for each in found)
    if entry.upstream:
        nowhere = list(leads_nowhere(entry.upstream, host, fleet, every=True))
        yield from (Finding((*keys, "upstream", *inner), words, of_value=True) for inner, words in nowhere)
        found += [Finding(keys, words) for _, words in nowhere]
    servers = fleet.every_behind(upstream or host)
    asked = fleet.every_behind(entry.upstream) if entry.upstream else servers
    if not found and not fleet.malformed and not any(model in each.models for each in servers if each in asked):
        yield Finding(keys, f"no llama-server behind the {role} serves {quoted(model)}: see its upstream")
