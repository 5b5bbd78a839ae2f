"""What roles say of themselves to the rest of the fleet: the llama-servers of a host, the sites that lead to them, its admin endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import AfterValidator, Field

from roles.preset import Preset, PresetValue, purpose
from roles.role import CARD, Matches, address_of, port_of, whole_address

if TYPE_CHECKING:
    from roles.upstream import Behind

KEY_FILE = "/etc/paddock/llama-server/api-key.env"

CALLERS = "paddock-callers"
"""The group of the programs that may ask the llama-servers of their host by a Unix socket."""

SERVER_DAYS = 90
"""How long a certificate lives that the fleet's CA signs for a site."""

MODEL_DIRECTORY = "/var/lib/paddock/models"
"""Where the models' files lie on a host that does not say it."""

Card = (
    Annotated[int, Field(ge=0, le=63)]
    | Annotated[
        str,
        Matches(CARD, "is not a card: give its number, its PCI address such as 0000:01:00.0, or the UUID that nvidia-smi -L shows"),
        AfterValidator(whole_address),
    ]
)
"""A card: its number in the order of PCI addresses, as in nvidia-smi (see `gpu: {count_from: …}`), its PCI address or its UUID."""


@dataclass(frozen=True)
class Server:
    """One process that answers, and what it is called: `name` on its host, `unit` to systemd there.

    `models` are the fleet's names of what it serves, one of an instance; `preset` is what the inventory says of this server
    in particular, `shared` what it says of all the host's servers.
    `models_max` is how many of them a router has in memory at a time, 0 any number.
    `group` is what the inventory calls the instances that are alike, none of a router. `gpus` are the cards that it is pinned to, and
    `count_from` is the number of the host's first card. With an `api_key`, whoever asks has to know it: `key_name` is that secret's name.
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
    models_max: int = 0
    api_key: bool = False
    scope: Literal["system", "user"] = "system"
    user: str = "llama-server"
    key_name: str = ""
    shared: Mapping[str, PresetValue] = field(default_factory=dict)
    workers: tuple[str, ...] = ()
    """The hosts that compute for it, in the order of its devices."""
    tunnels: tuple[str, ...] = ()
    """Where it reaches each of them, `ADDRESS:PORT` on its own host, if what goes there is encrypted."""
    opens: frozenset[str] = frozenset()
    """The options of presets by which it may do more than answer with its models (roles/sandbox.py: BEYOND)."""
    egress: bool = False
    """Whether it may connect to other machines."""
    interface: str = ""
    """The network interface at whose address it listens, beside loopback; `listen` then has every address."""
    encrypted: bool = True
    """Whether hosts that call it do so through an encrypted tunnel."""
    wait_s: int = 120
    """How long a request waits for it while it starts anew."""
    drain_s: int = 60
    """How long the answers that it is giving have to end before it stops."""
    runtime: Literal["native", "container"] = "native"
    """Whether its unit runs the program itself, or a container with it."""

    @property
    def listener(self) -> str:
        """The socket unit by which systemd holds its port; empty of an account's own, which holds it itself."""
        return f"paddock-proxy-{self.unit.removesuffix('.service')}.socket" if self.scope == "system" else ""

    @property
    def container(self) -> str:
        """What its container is called; empty of one that runs natively."""
        return f"paddock-{self.unit.removesuffix('.service')}" if self.runtime == "container" else ""

    @property
    def stop_s(self) -> int:
        """How long a stop of it may take: those that it answers have their time, and then it has half a minute to end."""
        return self.drain_s + 45 if self.listener else 30

    @property
    def socket(self) -> str:
        """Where callers on its host reach it, those that the group CALLERS lets in; empty of an account's own."""
        return f"/run/paddock/{self.unit.removesuffix('.service')}.sock" if self.scope == "system" else ""

    @property
    def holds_its_port(self) -> str:
        """A shell command that succeeds while its TCP port is held for it, and by nobody else: before that it is sent no key there."""
        if self.listener:
            return f"systemctl is-active --quiet {quote(self.listener)}"
        listening = f"ss -Hltne 'sport = :{self.port}' | grep -o 'uid:[0-9]*' | sort -u"
        return f'[ "$({listening})" = "uid:$(id -u {quote(self.user)})" ]'

    @property
    def key_file(self) -> str:
        """Where its host has the key that callers have to know, as LLAMA_API_KEY; empty where they need none."""
        return KEY_FILE if self.api_key else ""

    @property
    def address(self) -> str:
        return address_of(self.listen)

    @property
    def port(self) -> int:
        return port_of(self.listen)

    @property
    def shared_keys(self) -> tuple[str, ...]:
        """The keys that lead from its host to what the inventory says of all the host's servers."""
        return ("roles", "llama_server")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that lead from its host to what the inventory says of it."""
        return (*self.shared_keys, "instances", self.group) if self.group else self.shared_keys


@dataclass(frozen=True)
class ImageServer:
    """What makes images on a host: `models` by their names there, each with the size of an image that nobody says one for."""

    host: str
    name: str
    listen: str
    models: Mapping[str, str]
    key_name: str
    """The name of the secret that it asks for."""


@dataclass(frozen=True)
class Worker:
    """What computes on a host for a llama-server of another: llama.cpp's ggml-rpc-server, which serves one caller at a time.

    It is reached at `listen`, through a tunnel where that is `encrypted`; `keys` lead from its host to what the inventory says of it.
    """

    host: str
    listen: str
    encrypted: bool = True
    memory_max: str | None = None
    runs: str = ""
    """What it is started with: if that changes, it ends, and with it the server that it computes for."""

    keys = ("roles", "rpc_worker")


class Acme(Protocol):
    """The certificate authority of a site; `root` is its own certificate, a file beside the inventory, where it is a private one."""

    @property
    def root(self) -> str | None: ...


class Site(Protocol):
    """What a reverse proxy does under one name: who answers, and the clients that are let in."""

    @property
    def upstream(self) -> Behind: ...

    @property
    def clients(self) -> tuple[str, ...] | None: ...

    @property
    def acme(self) -> Acme | None: ...

    @property
    def origins(self) -> tuple[str, ...]:
        """Of the pages elsewhere that may call it."""


@dataclass(frozen=True)
class Entrance:
    """One site of a reverse proxy, as who calls it sees it. `admits` are the clients that it lets in."""

    name: str
    host: str
    address: str
    port: int
    site: Site
    admits: tuple[str, ...]

    @property
    def url(self) -> str:
        """`https://ai.home.example`"""
        return f"https://{self.name}" + ("" if self.port == 443 else f":{self.port}")


@dataclass(frozen=True)
class Administration:
    """The admin endpoint of a host: where it answers, `ADDRESS:PORT`, and the socket by which who is to call reaches it, if there is one:
    on its own host, and at the beginning of a tunnel. `key_name` is the name of the secret that it asks for."""

    endpoint: str
    socket: str
    key_name: str
    encrypted: bool = True


@dataclass(frozen=True)
class Tunnelled:
    """What the `callers`, other hosts, reach on this one by a tunnel: from `at`, `ADDRESS:PORT`, to a `socket`. The inventory says that it
    listens on `listen`."""

    host: str
    listen: str
    at: str
    socket: str
    callers: tuple[str, ...]

    @property
    def port(self) -> int:
        return port_of(self.at)

    @property
    def name(self) -> str:
        """What the tunnel is called at both ends."""
        return f"{self.host}.{self.port}"


def tunnel_socket(host: str, port: int, sockets: str = "hop") -> str:
    """Where a host reaches a port of another by a tunnel; `sockets` are those of a reverse proxy, or of who else calls. A name has 63
    characters at most, and a path of a socket 107."""
    return f"/run/paddock/{sockets}-{host}.{port}.sock"


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
