"""The fleet, typed and frozen. Field docstrings are the manual: `paddock schema` prints them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SerializeAsAny, TypeAdapter, create_model, model_validator

from inventory.errors import InventoryError
from inventory.servers import Server, answering, named_upstream, servers
from roles import ROLES, settings_of
from roles.caddy.settings import CaddySettings, Site
from roles.gpu.settings import GpuSettings
from roles.llama_server.settings import LlamaServerSettings
from roles.models.settings import ModelsSettings
from roles.preset import Preset, layered
from roles.role import Account, Domain, LocalPath, Matches, Name, RoleSettings, Settings, Sha256, Url, address_of, port_of

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
        r"(?=.{1,4000}$)(?!.*/\.{0,2}(/|$))/[^\x00-\x1f\x7f;#'\"]*[^\x00-\x20\x7f;#'\"]",
        "is no absolute path that a preset and a unit can carry (without quotes, ; and #, a space at its end, or .. in it)",
    ),
]
FileName = Annotated[
    str,
    Matches(r"(?!.*(^|/)\.{0,2}(/|$))[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*", "is no name of a file, seen from where it comes from"),
]
Repository = Annotated[
    str,
    Matches(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", 'is no repository of Hugging Face, such as "unsloth/Qwen3-8B-GGUF"'),
]
Revision = Annotated[
    str, Matches(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*", "is no revision: that is a branch, a tag or a commit, such as main")
]
ModelAlias = Annotated[
    str, Matches(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", "is no name that a client asks for: letters, digits, and . _ - : / @ +")
]
ContainerImage = Annotated[str, Matches(r"[a-z0-9][A-Za-z0-9._/:@-]*", "is no name of a container image, such as debian:trixie")]
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


class ModelPart(Settings):
    """One file of a model."""

    name: FileName
    """As it is called where it comes from: `Q8_0/qwen-00001-of-00003.gguf`"""

    sha256: Sha256
    """The digest that it must have."""

    size: Annotated[int, Field(gt=0)] | None = None
    """Its size in bytes."""


class ModelSource(Settings):
    """Where a model's files come from: exactly one of `hf`, `url`, `local` and `path`.

    What digests they must have stands here (`sha256`, or `files` where there are several), or in the lock beside the inventory, which
    `paddock models pull --lock` writes. Of a model in parts the first is named, `…-00001-of-00003.gguf`; the others lie beside it.
    """

    hf: Repository | None = None
    """A repository of Hugging Face: `unsloth/Qwen3-8B-GGUF`. The host fetches it from there."""

    revision: Revision | None = None
    """Its branch, tag or commit; the lock pins the commit. `main` by default."""

    file: FileName | None = None
    """The file in the repository."""

    include: Annotated[str, Field(min_length=1)] | None = None
    """Or a pattern that fits this model's files there and no other model's: `*Q4_K_M*`."""

    url: Url | None = None
    """The host fetches it from here."""

    local: LocalPath | None = None
    """A file on the control machine, relative to the inventory."""

    path: FilePath | None = None
    """A file that is on the host already; Paddock checks it and never touches it."""

    sha256: Sha256 | None = None
    """The digest that the file must have."""

    size: Annotated[int, Field(gt=0)] | None = None
    """Its size in bytes, if you want that checked before anything is fetched."""

    files: tuple[ModelPart, ...] = ()
    """Every file with its digest, in the order of the parts."""

    @model_validator(mode="after")
    def _whole(self) -> ModelSource:
        given = [name for name in ("hf", "url", "local", "path") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of hf, url, local and path, this has {' and '.join(given) or 'none'}")
        if not self.hf and (stray := [name for name in ("revision", "file", "include") if getattr(self, name)]):
            raise ValueError(f"{stray[0]} is of a repository, hf, and this is a {given[0]}")
        if self.file and self.include:
            raise ValueError("needs one of file and include, this has both")
        if self.files and self.named and len(self.files) != len(self.named):
            raise ValueError(f"files has {len(self.files)}, and {self.named[0]} is of {len(self.named)}")
        if self.sha256 and (self.files or len(self.named) > 1):
            raise ValueError("sha256 is of one file: leave it out, and let `files` or the lock say a digest for each part")
        if self.hf and self.sha256 and not self.file:
            raise ValueError("sha256 is of one file: name it with file")
        if self.path and not self.digests:
            raise ValueError("path needs sha256: only the host could say what lies there now, and that need not be what you mean")
        return self

    @property
    def asked(self) -> dict[str, str]:
        """What was asked for, without what it turned out to be: `{"hf": "unsloth/Qwen3-8B-GGUF", "include": "*Q4_K_M*"}`."""
        named = {name: getattr(self, name) for name in ("hf", "revision", "file", "include", "url", "local", "path")}
        return {name: value for name, value in named.items() if value}

    @property
    def named(self) -> tuple[str, ...]:
        """The files, as far as their names are known without a look: the URLs, paths or names in the repository of all parts."""
        first = self.url or self.local or self.path or self.file
        return parts_of(first) if first else ()

    @property
    def digests(self) -> tuple[ModelPart, ...]:
        """Every file with its digest; none where the lock is to say them."""
        if self.sha256:
            name = self.named[0] if self.hf else self.named[0].rpartition("/")[2] or "model.gguf"
            return (ModelPart(name=name, sha256=self.sha256, size=self.size),)
        return self.files


PART = re.compile(r"-00001-of-(\d{5})(?=\.gguf)")


def parts_of(first: str) -> tuple[str, ...]:
    """The names of all parts of a model, out of the first's, as llama-gguf-split gives them; of a model in one file its name alone."""
    found = PART.search(first)
    if not found:
        return (first,)
    many = int(found[1]) or 1
    return tuple(PART.sub(f"-{number:05d}-of-{many:05d}", first, count=1) for number in range(1, many + 1))


class ModelEntry(Settings):
    """A model, and the options it is served with."""

    source: Literal["tiny"] | ModelSource = "tiny"
    """`tiny` is a model of random weights that Paddock writes itself: it answers, and needs no download."""

    preset: Preset = {}
    """llama-server's long options without dashes: `{ctx-size: 8192, temp: 0.7}`."""

    aliases: tuple[ModelAlias, ...] = ()
    """Other names that clients may ask for it by: `[qwen2.5:3b]`."""

    def laid_as(self, name: str) -> tuple[str, ...]:
        """What its files are called on a host, seen from the directory of its models: `chat.gguf`, `chat/chat-00001-of-00003.gguf` …"""
        source = self.source
        many = len(source.digests or source.named) if isinstance(source, ModelSource) else 1
        return parts_of(f"{name}/{name}-00001-of-{many:05d}.gguf") if many > 1 else (f"{name}.gguf",)


class Client(Settings):
    """Who holds a client certificate. The name is the certificate's."""

    days: Annotated[int, Field(ge=1, le=180)] = 180
    """How long a certificate is valid; it is renewed when a third of that is left."""

    admin: bool = False
    """Whether it may also restart servers and change presets on the hosts that carry the role `admin`."""


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

    def servers(self, host: str) -> tuple[Server, ...]:
        """The host's llama-servers: its router, and its instances of fixed models."""
        settings = self.role(host, "llama_server", LlamaServerSettings)
        gpu = self.role(host, "gpu", GpuSettings)
        return tuple(servers(host, settings, gpu.count_from if gpu else 0)) if settings else ()

    def served_models(self, host: str) -> dict[str, ModelEntry]:
        """The models that the host's llama-servers name, by name and in their order; empty where it serves none."""
        return {name: self.models[name] for server in self.servers(host) for name in server.models}

    def presets(self, host: str) -> tuple[Preset, ...]:
        """What the host's llama-servers serve each of their models with, as far as the inventory says it."""
        return tuple(self.preset(server, name) for server in self.servers(host) for name in server.models)

    def preset(self, server: Server, model: str) -> Preset:
        """What the inventory says of a model on a server. A router's goes behind the model's own, an instance's before it."""
        own = self.models[model].preset
        role = self.role(server.host, "llama_server", LlamaServerSettings)
        return layered(server.preset, own) if server.kind == "router" or not role else layered(role.preset, own, server.preset)

    def model_path(self, host: str, model: str) -> str:
        """Where the model's file lies on the host: of several the first, which llama-server is given."""
        return self.model_paths(host, model)[0]

    def model_paths(self, host: str, model: str) -> tuple[str, ...]:
        """Where all files of the model lie on the host."""
        entry = self.models[model]
        if isinstance(entry.source, ModelSource) and entry.source.path:
            return entry.source.named
        settings = self.role(host, "models", ModelsSettings) or ModelsSettings()
        return tuple(f"{settings.directory}/{name}" for name in entry.laid_as(model))

    def upstreams(self, upstream: str, seen_from: str) -> tuple[str, ...]:
        """`ADDRESS:PORT` of each llama-server that answers for `HOST` or `HOST/INSTANCES`, for a caller on `seen_from`.

        Raises InventoryError where there is none, or where that host cannot reach it.
        """
        if not (found := self.behind(upstream)):
            raise InventoryError([f"hosts.{seen_from}: it passes requests on to {upstream}, where no llama-server answers"])
        return tuple(self.endpoint(server, seen_from) for server in found)

    def behind(self, upstream: str) -> tuple[Server, ...]:
        """The llama-servers that answer for `HOST` or `HOST/INSTANCES`."""
        host, group = named_upstream(upstream)
        return answering(self.servers(host), group)

    def endpoint(self, server: Server, seen_from: str) -> str:
        """`ADDRESS:PORT` of a llama-server for a caller on `seen_from`. Raises InventoryError where that cannot reach it."""
        place = f"instances.{server.group}.listen" if server.group else "listen"
        return self.reach(server.listen, f"hosts.{server.host}.roles.llama_server.{place}", server.host, seen_from)

    def reach(self, listen: str, where: str, host: str, seen_from: str) -> str:
        """`ADDRESS:PORT` of what listens so on a host, as the key `where` of the inventory says, for a caller on another.

        Raises InventoryError where that cannot reach it.
        """
        address, port = ipaddress.ip_address(address_of(listen)), port_of(listen)
        if address.is_loopback and host != seen_from:
            words = f"{where}: {listen} is out of reach for {seen_from}"
            raise InventoryError([f"{words}: give it an address of its network, such as 0.0.0.0:{port}"])
        reach = str(address)
        if address.is_unspecified:
            loopback = "127.0.0.1" if address.version == 4 else "::1"
            reach = self.hosts[host].address if host != seen_from else loopback
        return f"[{reach}]:{port}" if ":" in reach else f"{reach}:{port}"

    def entrances(self, client: str | None = None) -> Iterator[Entrance]:
        """Every site of the fleet's reverse proxies; with a `client` those that let it in."""
        for host in self.hosts_with("caddy"):
            settings = self.role(host.name, "caddy", CaddySettings)
            for name, site in settings.sites.items() if settings else ():
                admits = self.admits(site)
                if settings and (client is None or client in admits):
                    yield Entrance(name, host.name, host.address, settings.port, site, admits)

    def admits(self, site: Site) -> tuple[str, ...]:
        """The clients that a site lets in: those that it names, or all of the fleet's."""
        return tuple(self.clients) if site.clients is None else site.clients

    def callers(self, host: str) -> tuple[str, ...]:
        """The other hosts that pass requests on to this one."""
        entering = (each for each in self.entrances() if named_upstream(each.site.upstream)[0] == host)
        return tuple(dict.fromkeys(each.host for each in entering if each.host != host))

    def limited(self, only: frozenset[str]) -> Iterator[Host]:
        """The hosts that a `--limit` of host, role and group names leaves; all of them where it is empty."""
        for host in self.hosts.values():
            if not only or host.name in only or only & set(host.groups) or only & set(host.carried):
                yield host
