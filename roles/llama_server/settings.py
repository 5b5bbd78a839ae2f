from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from roles.preset import Preset
from roles.role import CARD, Account, Endpoint, Matches, Name, RoleSettings, Settings, port_of, whole_address

MemoryMax = Annotated[str, Matches(r"[1-9][0-9]{0,8}[KMGT]", "is no amount of memory, such as 24G")]

Card = (
    Annotated[int, Field(ge=0, le=63)]
    | Annotated[
        str,
        Matches(CARD, "is no card: give its number, its PCI address such as 0000:01:00.0, or the UUID that nvidia-smi -L shows"),
        AfterValidator(whole_address),
    ]
)
"""A card by its number in the order of PCI addresses, as nvidia-smi counts too (see `gpu: {count_from: …}`), by PCI address or by UUID."""


class InstanceSettings(Settings):
    """A llama-server with one fixed model, or several alike."""

    model: str
    """A name out of the fleet's `models`; it is also what clients ask for."""

    listen: Endpoint
    """Where it answers; of several alike, the first. The others have the ports after it."""

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """The port of each, where they do not follow one another."""

    count: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many alike; by default as many as `gpus` has entries, else one."""

    gpus: tuple[Card | Annotated[tuple[Card, ...], Field(min_length=1)], ...] = ()
    """The card of each, `[1, 2, 3]`, or its cards, `[[0, 1], [2, 3]]`. It sees no other. Without, each sees all that there are."""

    preset: Preset = {}
    """Options for this server: they go before what the model and the role say."""

    memory_max: MemoryMax | None = None
    """The most memory that each may take, as systemd writes it: `2G`."""

    @model_validator(mode="after")
    def _as_many(self) -> InstanceSettings:
        said = {name: number for name, number in (("count", self.count), ("gpus", len(self.gpus)), ("ports", len(self.ports))) if number}
        if len(set(said.values())) > 1:
            raise ValueError(f"is unclear about how many there are: {', '.join(f'{name} has {number}' for name, number in said.items())}")
        if self.ports and self.ports[0] != port_of(self.listen):
            raise ValueError(f"listens on {self.listen} first, and the first of its ports is {self.ports[0]}: let the two agree")
        if port_of(self.endpoints()[-1]) > 65535:
            raise ValueError(f"there are not as many ports above {self.listen}")
        return self

    @property
    def many(self) -> int:
        return self.count or len(self.gpus) or len(self.ports) or 1

    def endpoints(self) -> tuple[str, ...]:
        """Where each answers."""
        where, _, first = self.listen.rpartition(":")
        return tuple(f"{where}:{port}" for port in self.ports or range(int(first), int(first) + self.many))

    def cards(self) -> tuple[tuple[Card, ...], ...]:
        """The cards of each; none where it may use all."""
        return tuple(each if isinstance(each, tuple) else (each,) for each in self.gpus) or ((),) * self.many


def _not_root(account: str) -> str:
    if account == "root":
        raise ValueError("root is not to serve: name another account, or none, and they are the system's services, as a user of their own")
    return account


class LlamaServerSettings(RoleSettings):
    """llama-server as a router, which starts a server for each model when somebody asks for it, or with fixed models, or both."""

    listen: Endpoint = "127.0.0.1:8080"
    """Where the router answers. Loopback unless a reverse proxy on another host needs to reach it."""

    models: tuple[str, ...] = ()
    """The router's: names out of the fleet's `models`, in the order in which they are listed. Without, there is no router."""

    models_max: Annotated[int, Field(ge=0, le=1000)] = 1
    """Models in memory at a time; 0 is no limit."""

    autoload: bool = True
    """Whether a request loads the model that it names."""

    preset: Preset = {}
    """Options for every model, as llama-server's long options without dashes: `{ctx-size: 8192, cache-type-k: q8_0}`."""

    memory_max: MemoryMax | None = None
    """The most memory that the router may take with its models, as systemd writes it: `24G`."""

    instances: dict[Name, InstanceSettings] = {}
    """Servers with one fixed model each: `{chat: {model: chat, listen: "127.0.0.1:8081", gpus: [1, 2, 3]}}` is three, each on a card."""

    user: Annotated[Account, AfterValidator(_not_root)] | None = None
    """An account whose own services they are to be, which run also while it is not logged in; without, they are the system's, and more
    tightly locked in."""

    api_key: bool = False
    """Whether who asks has to know a key. Paddock makes it: `paddock secrets show api-key.HOST` shows it."""

    def endpoints(self) -> Iterator[str]:
        if self.models:
            yield self.listen
        for each in self.instances.values():
            yield from each.endpoints()


def api_key_name(host: str) -> str:
    """The name of the secret that callers of a host's llama-servers have to know."""
    return f"api-key.{host}"
