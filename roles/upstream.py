"""What a site of a reverse proxy leads to: which of the fleet's llama-servers answer there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from roles.role import Name, Settings
from roles.server import ImageServer, Server, answering


class OfModel(Settings):
    """Every llama-server of the fleet that serves a model."""

    model: str
    """The name of the model."""


class OfGateway(Settings):
    """The gateway of a host, which asks llama-servers by itself."""

    gateway: Name
    """The host with the role `gateway`: that of the reverse proxy itself."""


class OfLitellm(Settings):
    """LiteLLM of a host, which asks llama-servers by itself."""

    litellm: Name
    """The host with the role `litellm`: that of the reverse proxy itself."""


class OfLangfuse(Settings):
    """Langfuse of a host: its page, and what takes traces."""

    langfuse: Name
    """The host with the role `langfuse`: that of the reverse proxy itself."""


OfFront = OfGateway | OfLitellm | OfLangfuse
"""What asks callers for a key or a password, and says itself what they may ask for."""

FRONTS: Mapping[str, str] = {"gateway": "a gateway", "litellm": "LiteLLM", "langfuse": "Langfuse"}
"""By role, in words."""


Upstream = str | Annotated[tuple[str, ...], Field(min_length=1)] | OfModel
"""`HOST`, `HOST/INSTANCE`, `GROUP`, `GROUP/INSTANCE`, a list of them, or `{model: NAME}`."""


def _kind(value: object) -> str:
    """Which of the mappings somebody means, by its keys."""
    keys = front(value)[:1] if isinstance(value, OfFront) else value if isinstance(value, Mapping) else ()
    role = next((each for each in FRONTS if each in keys), "")
    return f"of {FRONTS[role]}" if role else "of a model"


Behind = (
    str
    | Annotated[tuple[str, ...], Field(min_length=1)]
    | Annotated[
        Annotated[OfModel, Tag("of a model")]
        | Annotated[OfGateway, Tag("of a gateway")]
        | Annotated[OfLitellm, Tag("of LiteLLM")]
        | Annotated[OfLangfuse, Tag("of Langfuse")],
        Discriminator(_kind),
    ]
)
"""What a site leads to."""


def named(upstream: Behind) -> tuple[str, ...]:
    """The hosts and groups, each as it is written; none where a model or one of FRONTS is named."""
    if isinstance(upstream, OfModel | OfFront):
        return ()
    return (upstream,) if isinstance(upstream, str) else upstream


def as_written(upstream: Behind) -> str:
    """`rig/chat`, `[halo, rig/chat]`, `{model: chat}`, `{gateway: door}`"""
    if isinstance(upstream, OfFront):
        return f"{{{': '.join(front(upstream))}}}"
    if isinstance(upstream, OfModel):
        return f"{{model: {upstream.model}}}"
    return upstream if isinstance(upstream, str) else f"[{', '.join(upstream)}]"


def front(upstream: OfFront) -> tuple[str, str]:
    """The role that stands there, and its host: `("gateway", "door")`."""
    if isinstance(upstream, OfGateway):
        return "gateway", upstream.gateway
    return ("litellm", upstream.litellm) if isinstance(upstream, OfLitellm) else ("langfuse", upstream.langfuse)


def parts(name: str) -> tuple[str, str]:
    """`rig` → the host or group and no instance; `rig/chat` → the host or group and which instance."""
    where, _, instance = name.partition("/")
    return where, instance


def hosts_named(where: str, hosts: Iterable[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The hosts that a name stands for: a host goes before a group of the same name."""
    return (where,) if where in hosts else tuple(groups.get(where, ()))


def servers_behind(
    upstream: Behind,
    hosts: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    servers: Callable[[str], tuple[Server, ...]],
    every: bool = False,
) -> tuple[Server, ...]:
    """The llama-servers that answer, each once, none behind one of FRONTS; `servers` has those of a host.

    Where `every`, a host stands for all that it has, and not for those that stand in for each other.
    """
    if isinstance(upstream, OfModel):
        return tuple(server for host in hosts for server in servers(host) if upstream.model in server.models)
    found: dict[tuple[str, str], Server] = {}
    for where, instance in map(parts, named(upstream)):
        for host in hosts_named(where, hosts, groups):
            of_host = servers(host)
            answer = of_host if every and not instance else answering(of_host, instance)
            found |= {(each.host, each.name): each for each in answer}
    return tuple(found.values())


def image_servers_behind(
    upstream: Upstream, hosts: Iterable[str], groups: Mapping[str, Sequence[str]], servers: Callable[[str], tuple[ImageServer, ...]]
) -> tuple[ImageServer, ...]:
    """What makes images on the hosts that are named as a whole, each once."""
    whole = dict.fromkeys(
        host for where, instance in map(parts, named(upstream)) if not instance for host in hosts_named(where, hosts, groups)
    )
    return tuple(each for host in whole for each in servers(host))


def hosts_of(servers: Iterable[Server]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.host for each in servers))


def shown(server: Server) -> str:
    """`halo` for the router of a host, `rig/chat` for one of its instances."""
    return f"{server.host}/{server.group}" if server.group else server.host


def common_models(servers: Sequence[Server]) -> tuple[str, ...]:
    """The models that each of the servers has, in the order of the first."""
    first, *others = servers or (None,)
    return tuple(model for model in first.models if all(model in each.models for each in others)) if first else ()


def models_behind(upstream: Behind, servers: Sequence[Server]) -> tuple[str, ...]:
    """All models of the servers, those first that somebody may ask for without knowing which server answers."""
    asked = (upstream.model,) if isinstance(upstream, OfModel) else ()
    return tuple(dict.fromkeys((*asked, *common_models(servers), *(model for each in servers for model in each.models))))
