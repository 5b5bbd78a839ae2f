from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from roles.expiry import ExpirySettings
from roles.front import PEPPER, PublicModel, PublicName, offers_nothing, taken_names
from roles.metrics import Metrics
from roles.references import Finding, Whole
from roles.role import (
    InterfaceEndpoint,
    MemoryMax,
    Name,
    RoleSettings,
    Settings,
    address_of,
    interface_of,
    is_loopback,
    is_privileged,
    port_of,
    with_address,
)
from roles.upstream import Upstream
from roles.users import UserLimits
from roles.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

POSTGRES = "postgres"


def _network(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError("a network has no interface")
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is neither an address nor a network, such as 192.0.2.7 or 192.0.2.0/24 ({error})') from None


Network = Annotated[str, AfterValidator(_network)]
Seconds = Annotated[float, Field(gt=0, le=31 * 24 * 3600, allow_inf_nan=False)]
Listen = Annotated[
    tuple[InterfaceEndpoint, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class Queue(Settings):
    """How requests wait for a slot."""

    length: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Requests of all users that may wait; one more gets 429."""

    per_user: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Requests of one user that may wait."""

    wait_s: Seconds = 300.0
    """Seconds after which a request that still waits gets 429."""

    swap_bound_s: Seconds = 30.0
    """Seconds that a router goes on with its loaded models while a request for another one waits."""


class Health(Settings):
    """When a llama-server counts as gone."""

    every_s: Seconds = 15.0
    """Seconds between two looks."""

    failures: Annotated[int, Field(ge=1, le=100)] = 2
    """Failures in a row after which it gets no requests for a while."""

    cooldown_s: Seconds = 60.0
    """How long that is, in seconds."""

    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a request is given to another server, as long as nothing of the answer has come."""

    wait_s: Annotated[float, Field(ge=0, le=31 * 24 * 3600, allow_inf_nan=False)] = 120.0
    """Seconds that requests wait once none of their servers is up any more, during a restart for example. Then they get 503."""


class OnPostgres(Settings):
    """A PostgreSQL database of the fleet."""

    postgres: Name
    """The host with the role `postgres`. It has to be the gateway's own: it is reached by its socket, without a password."""


PROFILES: Mapping[str, Mapping[str, Any]] = {
    "pi5-fast": {"max_tokens": 96, "threads": 4, "warm_up": True, "residency_s": 1800.0},
}
"""Answers that come soon, by the machine. What the model itself is served with stands in its preset (docs/gateway.md)."""


class Pi(Settings):
    """The small host's API: `/generate`, `/benchmark` and `/health`."""

    model: PublicName | None = None
    """The model that answers, by one of its public names; by default the first."""

    profile: Literal["pi5-fast"] | None = None
    """Defaults for a machine. `pi5-fast`: 96 tokens an answer, 4 threads, a warm-up at start, the model in memory for 30 minutes."""

    max_tokens: Annotated[int, Field(ge=1, le=2048)] | None = None
    """Tokens of an answer where a request does not say it; by default the profile's, or 160."""

    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 4
    """Requests to `/generate` at once."""

    threads: Annotated[int, Field(ge=0, le=1024)] | None = None
    """What `/benchmark` recommends as N_THREADS; by default the profile's, or the number of processors."""

    residency_s: Annotated[int, Field(ge=1, le=31 * 24 * 3600)] | None = None
    """What `/benchmark` recommends as OLLAMA_KEEP_ALIVE, in seconds; by default the profile's, or 1800."""

    warm_up: bool | None = None
    """Ask the model for one token at start, and be ready only then; by default the profile's, or no."""

    keys_generate: tuple[Network, ...] = ()
    """The networks from which `/keys/generate` makes keys for whoever asks: `["127.0.0.0/8", "::1/128"]` is this host alone. By default
    there is no such page."""

    def chosen(self, name: str, otherwise: Any) -> Any:
        """A setting: what is written, what the profile has, or `otherwise`."""
        written = getattr(self, name)
        return PROFILES.get(self.profile or "", {}).get(name, otherwise) if written is None else written


class GatewaySettings(RoleSettings):
    """A gateway before llama-servers: one key for each user, limits, fair turns for slots, a log of requests, and the APIs of OpenAI and
    Anthropic. docs/gateway.md is its manual.

    Users who share a server must not get what another has said. So the servers behind a gateway keep no cache of prompts in memory.
    """

    listens_by_family: ClassVar[bool] = True
    admits_users: ClassVar[bool] = True

    listen: Listen = ("127.0.0.1:8001",)
    """The listening address, a network interface as in `tailscale0:8001`, or several of them. The gateway speaks plain HTTP."""

    callers: tuple[Network, ...] | None = None
    """The networks that may call it, which the role firewall sees to; by default everybody whom its address lets in."""

    upstream: Upstream | None = None
    """The llama-servers behind it, as of a site of the role caddy; by default all of this host. A host or a group means all of its
    servers, `rig/chat` those of its instance `chat`."""

    models: dict[PublicName, PublicModel] = {}
    """The models that users may ask for, by the name that they use: `{default: {model: qwen-3b}}`. By default all models of the servers
    behind it, under their own names and aliases."""

    database: Literal["sqlite"] | OnPostgres = "sqlite"
    """Where keys, and the log of requests, are kept: `sqlite`, a file of this host, or `{postgres: HOST}`."""

    default_limits: UserLimits = UserLimits()
    """The limits of each user who has none of their own."""

    global_limits: UserLimits = UserLimits()
    """The limits of all users and models together."""

    queue: Queue = Queue()
    """How requests wait."""

    health: Health = Health()
    """When a server counts as gone."""

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """Days that a row of the log is kept."""

    spool_mib: Annotated[int, Field(ge=1, le=65536)] = 64
    """MiB of rows that wait on disk while the database is away. What comes beyond is dropped, and counted."""

    known_keys_s: Seconds = 3600.0
    """Seconds that a known key goes on to work while the database is away."""

    pi: Pi | None = None
    """The small host's API; by default there is none."""

    langfuse: Name | None = None
    """The host whose Langfuse gets a trace of each request: user, model, times and tokens, and nothing of what is said. By default none
    does."""

    master_key: bool = False
    """Have a master key, for `/key/generate` and the other calls by which LiteLLM's clients manage keys. Paddock makes it; `paddock
    secrets show gateway-master.HOST` shows it."""

    metrics_listen: InterfaceEndpoint | None = None
    """A second address, which has `/metrics`, `/livez` and `/readyz` alone. By default they are at `listen`."""

    metrics_by_user: bool = False
    """Have the users' names in metrics."""

    shared_system_prompt: bool = False
    """Let users share what a slot keeps of a system prompt that they have in common."""

    heartbeat_s: Seconds = 10.0
    """Seconds of silence in a stream after which it gets a comment, so that nobody hangs up."""

    drain_s: Annotated[int, Field(ge=1, le=3600)] = 90
    """Seconds that requests may go on for when it is stopped."""

    body_mib: Annotated[int, Field(ge=1, le=1024)] = 32
    """The largest request in MiB, images included."""

    memory_max: MemoryMax | None = None
    """Its memory limit, in systemd's notation: `512M`."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings before the certificate expires by which it reaches servers on other hosts."""

    @model_validator(mode="after")
    def _named_once(self) -> GatewaySettings:
        taken = taken_names(self.models)
        if self.models and self.pi and self.pi.model and self.pi.model not in taken:
            hint = did_you_mean(self.pi.model, taken)
            raise ValueError(f"pi.model: no public name is {quoted(self.pi.model)}{hint}")
        return self

    def endpoints(self) -> Iterator[str]:
        yield from map(with_address, self.listen)
        if self.metrics_listen:
            yield with_address(self.metrics_listen)

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield PEPPER, "what the gateways' keys are kept with"
        if self.master_key:
            yield master_key_name(host), f"master key of {host}'s gateway"

    def irreplaceable(self, host: str) -> Iterator[tuple[str, str]]:
        yield PEPPER, "no key that was made at a gateway would be known any more"

    def program(self) -> str:
        return "gateway"

    def asks(self, host: str) -> Iterator[Upstream]:
        yield self.upstream or host

    def front(self) -> str:
        return next((called_at(each) for each in self.listen if not interface_of(each)), "")

    def shown_metrics(self, host: str) -> Iterator[Metrics]:
        """At its own address they are for callers at loopback, and else for administrators' keys."""
        near = (each for each in map(called_at, self.listen) if not interface_of(each) and is_loopback(each))
        home = called_at(self.metrics_listen) if self.metrics_listen else next(near, "")
        yield Metrics("gateway", home, self.metrics_listen or "", "roles.gateway.metrics_listen")

    def public_models(self) -> Iterator[str]:
        for name, entry in self.models.items():
            yield from (name, *entry.aliases)

    def details(self) -> Iterable[str]:
        return self.listen

    def rehearsed(self, here: Rehearsal) -> tuple[GatewaySettings, list[str]]:
        moved, told = here.moved(self)
        listen = tuple(dict.fromkeys(map(here.there, self.listen)))
        if listen != self.listen:
            told.append(f"{here.host}: gateway.listen is {', '.join(listen)} in place of {', '.join(self.listen)}.")
        expiry, quietly = self.expiry.rehearsed(here)
        gone = [name for name, entry in self.models.items() if (entry.model or name) in here.without]
        if gone:
            told.append(f"{here.host}: gateway.models is without {', '.join(gone)}: its image server is left out.")
        update = {"listen": listen, "expiry": expiry, "models": {name: each for name, each in self.models.items() if name not in gone}}
        if self.langfuse and (self.langfuse, "langfuse") in here.left_out:
            told.append(f"{here.host}: gateway sends no traces: a lab has no Langfuse.")
            update["langfuse"] = None
        return moved.model_copy(update=update), [*told, *quietly]

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """It leads to servers that there are and that it reaches; its models are theirs; its database is there."""
        at = ("roles", "gateway")
        yield from offers_nothing("gateway", host, self.upstream, self.models, fleet, images=True)
        for each in fleet.image_servers_behind(self.upstream or host):
            if each.host != host and is_loopback(each.listen):
                better = f"0.0.0.0:{port_of(each.listen)}"
                words = f"{each.name} on {each.host} listens on {each.listen}, out of {host}'s reach: set for example {better}"
                yield Finding((*at, "upstream"), words, of_value=True)
        yield from self._database(host, fleet)
        if self.langfuse:
            yield from self._traced(self.langfuse, host, fleet)
        if self.callers is not None and "firewall" not in fleet.roles[host]:
            yield Finding((*at, "callers"), f"nothing on {host} keeps others away: add the role firewall, or leave callers out")
        for listen in (*self.listen, *filter(None, (self.metrics_listen,))):
            if is_privileged(with_address(listen)):
                key = "listen" if listen in self.listen else "metrics_listen"
                yield Finding((*at, key), f"{listen} is a port that only root may open: take one above 1023", of_value=True)

    def _traced(self, where: str, host: str, fleet: Whole) -> Iterator[Finding]:
        """Why no traces get there."""
        at, there = ("roles", "gateway", "langfuse"), fleet.roles.get(where, {})
        if where not in fleet.roles:
            yield Finding(at, fleet.no_host(where), of_value=True)
        elif "langfuse" not in there:
            yield Finding(at, f"there is no Langfuse on {where}: add the role langfuse to it", of_value=True)
        elif where != host and (settings := there["langfuse"]) and (found := settings.tracing(where)):
            if found.url.removeprefix("https://").partition(":")[0] in fleet.entrances:
                words = f"{found.url} asks for a client certificate, and a gateway has none: send traces to a Langfuse of {host} itself"
                yield Finding(at, words, of_value=True)
            elif not found.url and is_loopback(found.listen):
                better = f"0.0.0.0:{port_of(found.listen)}"
                words = f"langfuse on {where} listens on {found.listen}, out of {host}'s reach: set for example {better}"
                yield Finding(at, words, of_value=True)

    def _database(self, host: str, fleet: Whole) -> Iterator[Finding]:
        if not isinstance(self.database, OnPostgres):
            return
        at, where = ("roles", "gateway", "database", "postgres"), self.database.postgres
        if where not in fleet.roles:
            yield Finding(at, fleet.no_host(where), of_value=True)
        elif where != host:
            words = f"a gateway reaches PostgreSQL by the socket of its own host: name {host}, and add the role postgres to it"
            yield Finding(at, words, of_value=True)
        elif POSTGRES not in fleet.roles[where]:
            yield Finding(at, f"there is no PostgreSQL on {where}: add the role postgres to it", of_value=True)


def master_key_name(host: str) -> str:
    """The name of the secret by which a gateway's keys are managed."""
    return f"gateway-master.{host}"


def is_encrypted(listen: str) -> bool:
    """Whether what comes there is encrypted by its interface: Tailscale's or WireGuard's."""
    return interface_of(listen).startswith(("tailscale", "wg"))


def called_at(listen: str) -> str:
    """`ADDRESS:PORT` by which a caller on the same host reaches it."""
    address = address_of(listen)
    return f"127.0.0.1:{port_of(listen)}" if address == "0.0.0.0" else f"[::1]:{port_of(listen)}" if address == "::" else listen
