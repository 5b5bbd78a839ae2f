"""The llama-servers of a host: its router, and each instance of a fixed model, with where each listens and what it may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from roles.llama_server.settings import Card, LlamaServerSettings, api_key_name
from roles.preset import Preset, PresetValue, purpose
from roles.role import address_of, port_of

ROUTER = "llama-server"
KEY_FILE = "/etc/paddock/llama-server/api-key.env"


@dataclass(frozen=True)
class Server:
    """One process that answers, and what it is called: `name` on its host, `unit` to systemd there.

    `models` are the fleet's names of what it serves, one of an instance; `preset` is what the inventory says of this server
    in particular.
    `group` is what the inventory calls the instances that are alike, none of a router. `gpus` are the cards that it is pinned to, and
    `count_from` is the number of the host's first card. With an `api_key`, whoever asks has to know it.
    """

    host: str
    name: str
    unit: str
    listen: str
    models: tuple[str, ...]
    kind: Literal["router", "instance"]
    preset: dict[str, PresetValue]
    group: str = ""
    gpus: tuple[Card, ...] = ()
    count_from: int = 0
    memory_max: str | None = None
    api_key: bool = False
    scope: Literal["system", "user"] = "system"
    user: str = "llama-server"

    @property
    def key_file(self) -> str:
        """Where its host has the key that callers have to know, as LLAMA_API_KEY; empty where they need none."""
        return KEY_FILE if self.api_key else ""

    @property
    def key_name(self) -> str:
        """The name of the secret that callers have to know, where there is one."""
        return api_key_name(self.host)

    @property
    def address(self) -> str:
        return address_of(self.listen)

    @property
    def port(self) -> int:
        return port_of(self.listen)


def servers(host: str, settings: LlamaServerSettings, count_from: int = 0) -> Iterator[Server]:
    """The router first, where there is one, then the instances in the inventory's order."""
    whose: dict[str, Any] = {"scope": "user", "user": settings.user} if settings.user else {}
    if settings.models:
        yield Server(
            host,
            ROUTER,
            f"{ROUTER}.service",
            settings.listen,
            settings.models,
            "router",
            dict(settings.preset),
            count_from=count_from,
            memory_max=settings.memory_max,
            api_key=settings.api_key,
            **whose,
        )
    for group, each in settings.instances.items():
        alike = each.endpoints()
        for number, (listen, gpus) in enumerate(zip(alike, each.cards(), strict=True), 1):
            name = f"{group}-{number}" if len(alike) > 1 else group
            yield Server(
                host,
                name,
                f"{ROUTER}-{name}.service",
                listen,
                (each.model,),
                "instance",
                dict(each.preset),
                group,
                gpus,
                count_from,
                each.memory_max,
                settings.api_key,
                **whose,
            )


def named_upstream(upstream: str) -> tuple[str, str]:
    """`rig` → the host and no group; `rig/chat` → the host and which of its instances."""
    host, _, group = upstream.partition("/")
    return host, group


def answering(of_host: tuple[Server, ...], group: str) -> tuple[Server, ...]:
    """Who answers for a host: the instances of a group, or, where none is named, its router, or else the only group that it has."""
    if group:
        return tuple(each for each in of_host if each.group == group)
    routers = tuple(each for each in of_host if each.kind == "router")
    return routers or (of_host if len({each.group for each in of_host}) == 1 else ())


def question(model: str, preset: Preset, max_tokens: int = 4) -> tuple[str, Mapping[str, object]]:
    """What shows that a model works: the path to post to and the body, of a few tokens or, where the model is for that, an embedding."""
    match purpose(preset):
        case "embedding":
            return "/v1/embeddings", {"model": model, "input": "Hello!"}
        case "rerank":
            return "/v1/rerank", {"model": model, "query": "Hello!", "documents": ["Hello!"]}
        case "chat":
            return "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": max_tokens}
