"""The fleet, typed and frozen. Field docstrings are the manual: `paddock schema` prints them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SerializeAsAny, TypeAdapter, create_model, model_validator

from inventory.errors import InventoryError
from roles import ROLES, settings_of
from roles.llama_server.settings import LlamaServerSettings
from roles.models.settings import ModelsSettings
from roles.preset import Preset
from roles.role import Domain, LocalPath, Matches, Name, RoleSettings, Settings, Sha256, Url, address_of, port_of

DOMAIN = TypeAdapter(Domain)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    try:
        if re.search(r"(^|\.)[0-9]+$", value):
            raise ValueError(value)  # no top-level domain is a number: this is a mistyped IP address
        return DOMAIN.validate_python(value)
    except ValueError:
        raise ValueError(f'"{value}" is neither an IP address nor a host name') from None


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is no network such as 192.0.2.0/24 ({error})') from None


Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
ModelName = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "is no model name: letters, digits, dots, hyphens, underscores")]
FilePath = Annotated[
    str,
    Matches(
        r"(?!.*/\.{0,2}(/|$))/[^\x00-\x1f\x7f;#]*[^\x00-\x20\x7f;#]",
        "is no absolute path that a preset can carry (without ; and #, a space at its end, or .. in it)",
    ),
]
ContainerImage = Annotated[str, Matches(r"[a-z0-9][A-Za-z0-9._/:@-]*", "is no name of a container image, such as debian:trixie")]
Account = Annotated[str, Matches(r"[a-z_][a-z0-9_-]*", "is no name of an account: lower-case letters, digits, _ and -")]
HostKey = Annotated[
    str,
    Matches(r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) AAAA[A-Za-z0-9+/]{64,}={0,2}", 'is no whole host key, such as "ssh-ed25519 AAAA…"'),
]

Roles: type[Settings] = create_model(
    "Roles",
    __base__=Settings,
    __doc__="The roles that a host carries, each with its settings.",
    **{name: (settings_of(name) | None, None) for name in ROLES},  # type: ignore[call-overload]
)


class ModelSource(Settings):
    """Where a model's file comes from: exactly one of `url`, `local` and `path`, and the digest it must have."""

    url: Url | None = None
    """The host fetches it from here."""

    local: LocalPath | None = None
    """A file on the control machine, relative to the inventory."""

    path: FilePath | None = None
    """A file that is on the host already; Paddock checks it and never touches it."""

    sha256: Sha256
    """The digest that the file must have."""

    size: Annotated[int, Field(gt=0)] | None = None
    """Its size in bytes, if you want that checked before anything is fetched."""

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSource:
        given = [name for name in ("url", "local", "path") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of url, local and path, this has {' and '.join(given) or 'none'}")
        return self


class ModelEntry(Settings):
    """A model, and the options it is served with."""

    source: Literal["tiny"] | ModelSource = "tiny"
    """`tiny` is a model of random weights that Paddock writes itself: it answers, and needs no download."""

    preset: Preset = {}
    """llama-server's long options without dashes: `{ctx-size: 8192, temp: 0.7}`."""


class Client(Settings):
    """Who holds a client certificate. The name is the certificate's."""

    days: Annotated[int, Field(ge=1, le=180)] = 180
    """How long a certificate is valid; it is renewed when a third of that is left."""


class LabSettings(Settings):
    """What a host is like in the lab."""

    image: ContainerImage | None = None
    """The container image, if the lab's own does not fit."""

    cpu: Literal["no-avx"] | None = None
    """`no-avx`: a virtual machine with an x86-64 CPU that has SSE4.2, but neither AVX nor anything newer."""

    arch: Literal["arm64"] | None = None
    """`arm64`: a virtual machine with a Cortex-A76, the Raspberry Pi 5's. It is emulated, so it is slow."""

    @model_validator(mode="after")
    def _one_machine(self) -> LabSettings:
        given = [name for name in ("image", "cpu", "arch") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"takes one of image (a container), cpu and arch (virtual machines), this has {' and '.join(given)}")
        return self


class HostDefaults(Settings):
    """What hosts may have in common."""

    user: Account = "root"
    """The account to log in with over SSH."""

    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """The port that sshd listens on."""

    ssh_key: LocalPath | None = None
    """A private key file; by default those that ssh would offer."""

    sudo: bool | None = None
    """Whether to become root with sudo; by default where `user` is not root."""

    roles: SerializeAsAny[Roles] = Roles()
    """What the host carries."""

    lab: LabSettings = LabSettings()
    """What the host is like when the inventory is rehearsed."""


class HostEntry(HostDefaults):
    """One machine."""

    address: Annotated[Address, Field(examples=["192.0.2.10", "192.0.2.[11:19]", "ai.home.example"])]
    """Its IP address, or a name that resolves to it."""

    host_key: HostKey | None = None
    """Its SSH host key, as `ssh-keyscan` prints it without the name; else it is shown and asked for at first contact."""


class Group(HostDefaults):
    """Hosts with something in common."""

    hosts: Annotated[tuple[str, ...], Field(examples=[["ai", "pi[1:9]"]])] = ()
    """Their names; `pi[1:9]` is nine of them."""


class Document(Settings):
    """An inventory file."""

    fleet: Annotated[Name, Field(examples=["home"])]
    """The fleet's name: its state lies in `.paddock/<fleet>/` beside this file."""

    domain: Annotated[Domain, Field(examples=["home.example"])]
    """The domain that the fleet's certificates are limited to."""

    networks: Annotated[tuple[Network, ...], Field(examples=[["192.0.2.0/24"]])] = ()
    """The networks that the fleet's certificates are limited to."""

    defaults: HostDefaults = HostDefaults()
    """What holds for every host."""

    groups: dict[Name, Group] = {}
    """Hosts with something in common; what a group says goes before `defaults`, what a host says before its groups."""

    hosts: dict[str, HostEntry]
    """The machines, by name. `pi[1:9]` is nine of them; an address may then have a range too."""

    models: dict[ModelName, ModelEntry] = {}
    """The models, by the name that a client asks for."""

    clients: dict[Name, Client] = {}
    """Who may call."""


class Host(HostEntry):
    """One machine, with what its groups and the defaults add."""

    name: Name
    groups: tuple[str, ...] = ()

    @property
    def carried(self) -> Mapping[str, RoleSettings]:
        """The host's roles in deployment order, each with its settings."""
        found = ((role, getattr(self.roles, role)) for role in ROLES)
        return {role: settings for role, settings in found if settings is not None}

    @property
    def becomes_root(self) -> bool:
        return self.sudo if self.sudo is not None else self.user != "root"


S = TypeVar("S", bound=RoleSettings)


class Fleet(Settings):
    """All that one inventory describes, with ranges expanded, groups applied and references resolved."""

    name: Name
    domain: Domain
    networks: tuple[Network, ...] = ()
    hosts: dict[Name, Host]
    models: dict[ModelName, ModelEntry] = {}
    clients: dict[Name, Client] = {}

    def hosts_with(self, role: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts.values() if role in host.carried)

    def role(self, host: str, role: str, kind: type[S]) -> S | None:
        """The settings of a role on a host, or None where the host does not carry it."""
        settings = self.hosts[host].carried.get(role)
        return settings if isinstance(settings, kind) else None

    def served_models(self, host: str) -> dict[str, ModelEntry]:
        """The models that the host's llama-server names, by name and in its order; empty where it serves none."""
        server = self.role(host, "llama_server", LlamaServerSettings)
        return {name: self.models[name] for name in server.models} if server else {}

    def presets(self, host: str) -> tuple[Preset, ...]:
        """What the host's llama-server serves each of its models with, as far as the inventory says it."""
        server = self.role(host, "llama_server", LlamaServerSettings)
        return tuple({**server.preset, **entry.preset} for entry in self.served_models(host).values()) if server else ()

    def model_path(self, host: str, model: str) -> str:
        """Where the model's file lies on the host."""
        source = self.models[model].source
        if isinstance(source, ModelSource) and source.path:
            return source.path
        settings = self.role(host, "models", ModelsSettings) or ModelsSettings()
        return f"{settings.directory}/{model}.gguf"

    def upstream(self, host: str, seen_from: str) -> str:
        """`ADDRESS:PORT` of the host's llama-server for a caller on `seen_from`. Raises InventoryError where that cannot reach it."""
        server = self.role(host, "llama_server", LlamaServerSettings)
        if not server:
            raise InventoryError([f"hosts.{seen_from}: it passes requests on to the llama-server of {host}, which carries no llama_server"])
        address, port = ipaddress.ip_address(address_of(server.listen)), port_of(server.listen)
        if address.is_loopback and host != seen_from:
            where = f"hosts.{host}.roles.llama_server.listen: {server.listen} is out of reach for {seen_from}"
            raise InventoryError([f"{where}: give it an address of its network, such as 0.0.0.0:{port}"])
        reach = str(address)
        if address.is_unspecified:
            reach = self.hosts[host].address if host != seen_from else "127.0.0.1" if address.version == 4 else "::1"
        return f"[{reach}]:{port}" if ":" in reach else f"{reach}:{port}"

    def limited(self, only: frozenset[str]) -> Iterator[Host]:
        """The hosts that a `--limit` of host, role and group names leaves; all of them where it is empty."""
        for host in self.hosts.values():
            if not only or host.name in only or only & set(host.groups) or only & set(host.carried):
                yield host
