"""An inventory file, typed and frozen. Field docstrings are the manual: `paddock schema` prints them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, TypeAdapter, create_model, model_validator

from inventory.model_components import OPTIONS, Component, OptionFile, ScaledFile
from inventory.model_sources import AnyModelSource, BesideModel, ModelSource
from inventory.upgrade import UpgradeSettings
from roles import ROLES, settings_of
from roles.preset import Preset
from roles.role import Account, Domain, LocalFile, Matches, Name, Settings
from roles.users import User

DOMAIN = TypeAdapter(Domain)
ACCOUNT = TypeAdapter(Account)

BASTION = re.compile(r"(?:(?P<user>[^@:\s]+)@)?(?:\[(?P<address>[^\]\s]+)\]|(?P<name>[^@:\[\]\s]+))(?::(?P<port>[0-9]{1,5}))?")
"""`gate`, `user@bastion.home.example:2222`, `[2001:db8::1]:22`"""


SCOPE = re.compile(r"[A-Za-z0-9._-]{0,15}")


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        pass
    else:
        if not SCOPE.fullmatch(getattr(address, "scope_id", None) or ""):
            raise ValueError(f'"{value}": behind the % stands the name of a network interface, such as fe80::1%eth0')
        return str(address)
    try:
        if re.search(r"(^|\.)[0-9]+$", value):
            raise ValueError(value)  # no top-level domain is a number: this is a mistyped IP address
        return DOMAIN.validate_python(value)
    except ValueError:
        raise ValueError(f'"{value}" is neither an IP address nor a host name') from None


def _network(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError("a network has no interface")
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is not a network such as 192.0.2.0/24 ({error})') from None


def _no_lab(value: str) -> str:
    if value.endswith("-lab"):
        raise ValueError(f'"{value}" ends with -lab: choose another name, the state of a fleet\'s lab is called so')
    return value


def _via(value: str) -> str:
    found = BASTION.fullmatch(value)
    if not found:
        raise ValueError(
            f'"{value}" leads nowhere: write the name of another host of the fleet, or user@bastion.home.example:22 ([2001:db8::1]:22)'
        )
    if found["user"]:
        ACCOUNT.validate_python(found["user"])
    _address(found["address"] or found["name"])
    if found["port"] and not 1 <= int(found["port"]) <= 65535:
        raise ValueError(f'"{value}": a port is a number from 1 to 65535')
    return value


Address = Annotated[str, AfterValidator(_address)]
Via = Annotated[str, AfterValidator(_via)]
Network = Annotated[str, AfterValidator(_network)]
ModelName = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "is not a model name: letters, digits, dots, hyphens, underscores")]
ModelAlias = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", "is not a model alias: letters, digits, and . _ - : / @ +")]
ContainerImage = Annotated[str, Matches(r"[a-z0-9][A-Za-z0-9._/:@-]*", "is not a container image, such as debian:trixie")]
HostKey = Annotated[
    str,
    Matches(
        r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) AAAA[A-Za-z0-9+/]{64,}={0,2}", 'is not a complete host key, such as "ssh-ed25519 AAAA…"'
    ),
]

Roles: type[Settings] = create_model(
    "Roles",
    __base__=Settings,
    __doc__="The roles that a host carries, each with its settings.",
    **{name: (settings_of(name) | None, None) for name in ROLES},  # type: ignore[call-overload]
)


class ModelEntry(Settings):
    """A model and its options."""

    source: Literal["tiny"] | ModelSource = "tiny"
    """The source of its files. `tiny` is a model of random weights that Paddock generates: it answers, and needs no download."""

    preset: Preset = {}
    """llama-server's long options without dashes: `{ctx-size: 8192, temp: 0.7}`."""

    aliases: tuple[ModelAlias, ...] = ()
    """Other names that clients may use for the model: `[qwen2.5:3b]`."""

    mmproj: Literal["auto"] | OptionFile | None = None
    """The projector for images or sound: `{source: …}`, or `auto` for the one beside the model in its Hugging Face repository."""

    draft: OptionFile | None = None
    """A small model that drafts tokens, for speculative decoding."""

    lora: tuple[ScaledFile, ...] = ()
    """LoRA adapters: `[{source: {local: tone.gguf}, scale: 0.5}]`."""

    control_vector: tuple[ScaledFile, ...] = ()
    """Control vectors."""

    chat_template_file: OptionFile | None = None
    """A chat template in Jinja, in place of the model's own."""

    grammar_file: OptionFile | None = None
    """A grammar (GBNF) that answers follow."""

    json_schema_file: OptionFile | None = None
    """A JSON schema that answers follow."""

    @model_validator(mode="after")
    def _named_once(self) -> ModelEntry:
        if self.mmproj == "auto" and not (isinstance(self.source, ModelSource) and self.source.hf):
            raise ValueError("`mmproj: auto` looks in the model's Hugging Face repository, and it has none: name the file with `source`")
        for key in self.keys:
            if twice := [option for option in OPTIONS[key] if option in self.preset]:
                raise ValueError(f'has `{key}` and, in its preset, "{twice[0]}", which is the same: keep one of the two')
        return self

    def option_files(self, key: str) -> tuple[OptionFile, ...]:
        """What it says of one of OPTIONS; a projector is `auto` no more once it was looked for."""
        said: Literal["auto"] | OptionFile | tuple[OptionFile, ...] | None = getattr(self, key)
        if said == "auto":
            assert isinstance(self.source, ModelSource)
            asked = {"hf": self.source.hf, "revision": self.source.revision, "of": self.source.file or self.source.include or ""}
            return (OptionFile(source=BesideModel(**asked)),)
        return said if isinstance(said, tuple) else (said,) if said else ()

    def own(self, name: str) -> Component:
        """Its own files."""
        return Component(name, f"models.{name}", self.source)

    @property
    def keys(self) -> tuple[str, ...]:
        """Which of OPTIONS it has."""
        return tuple(key for key in OPTIONS if getattr(self, key))

    def components(self, name: str) -> tuple[Component, ...]:
        """Its own files first, then what options name."""
        found = [self.own(name)]
        for key in self.keys:
            files, called = self.option_files(key), f"{name}+{key.replace('_', '-')}"
            for at, file in enumerate(files):
                scale = file.scale if isinstance(file, ScaledFile) else 1.0
                numbered, place = (f"{called}-{at + 1}", f".{at}") if isinstance(getattr(self, key), tuple) else (called, "")
                found.append(Component(numbered, f"models.{name}.{key}{place}", file.source, key, scale))
        return tuple(found)

    def with_sources(self, name: str, change: Callable[[Component], AnyModelSource]) -> ModelEntry:
        """The entry with another source for each of its components."""
        own, *others = self.components(name)
        update: dict[str, Any] = {"source": change(own)}
        for key in self.keys:
            theirs = [each for each in others if each.key == key]
            files = tuple(
                file.model_copy(update={"source": change(each)}) for file, each in zip(self.option_files(key), theirs, strict=True)
            )
            update[key] = files if isinstance(getattr(self, key), tuple) else files[0]
        return self.model_copy(update=update)


class Client(Settings):
    """A client: the holder of a client certificate. Its name is the certificate's common name."""

    days: Annotated[int, Field(ge=1, le=180)] = 180
    """Validity of its certificates in days. `paddock up` renews a certificate when a third of that is left."""

    admin: bool = False
    """Allow the client every request at the sites that admit it, and, where a host has the role `admin`, to restart servers and change
    presets. Other clients may use models, list them and open the web page."""


class LabSettings(Settings):
    """A host's replacement in the lab."""

    image: ContainerImage | None = None
    """The container image; by default the lab's own."""

    suite: Literal["bookworm", "trixie", "forky", "sid"] | None = None
    """The suite of Debian in the container, by default `trixie`: that of the lab's own image, or that of `image`. An image of `forky` or
    `sid` has the packages of the day when it was made, and is made anew every month."""

    cpu: Literal["no-avx"] | None = None
    """`no-avx`: a virtual machine with an x86-64 CPU that has SSE4.2 but not AVX or newer extensions."""

    arch: Literal["arm64"] | None = None
    """`arm64`: an emulated, slow virtual machine with a Cortex-A76, as in the Raspberry Pi 5."""

    @model_validator(mode="after")
    def _one_machine(self) -> LabSettings:
        given = [name for name in ("image", "suite", "cpu", "arch") if getattr(self, name)]
        if len(given) > 1 and given != ["image", "suite"]:
            kinds = "image and suite (a container), or one of cpu and arch (virtual machines)"
            raise ValueError(f"takes {kinds}, this has {' and '.join(given)}")
        return self


class HostDefaults(Settings):
    """Keys that hosts can share."""

    user: Account = "root"
    """The account for the SSH login. If it is not set, `User` of ~/.ssh/config counts."""

    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """The port of sshd. If it is not set, `Port` of ~/.ssh/config counts."""

    ssh_key: LocalFile | None = None
    """A private key file for SSH; by default the keys that ssh would offer. Your SSH agent may hold it."""

    via: Annotated[Via, Field(examples=["gate", "admin@bastion.home.example:2222"])] | None = None
    """The machine through which the host is reached: another host of the fleet by its name, or `user@bastion:port`. By default `ProxyJump`
    or `ProxyCommand` of ~/.ssh/config, if there is one."""

    sudo: bool | None = None
    """Use sudo to become root; by default only if `user` is not root."""

    roles: SerializeAsAny[Roles] = Roles()
    """The roles that the host carries."""

    lab: LabSettings = LabSettings()
    """The host's replacement in the lab and in rehearsals."""


class HostEntry(HostDefaults):
    """One machine."""

    address: Annotated[Address, Field(examples=["192.0.2.10", "192.0.2.[11:19]", "ai.home.example"])]
    """Its IP address, or a name that resolves to it."""

    host_key: HostKey | None = None
    """Its SSH host key, as `ssh-keyscan` prints it, without the name. If it is missing, `up` shows the key at first contact and asks."""


SETTLE_S = 10


class Group(HostDefaults):
    """Hosts with something in common."""

    hosts: Annotated[tuple[str, ...], Field(examples=[["ai", "pi[1:9]"]])] = ()
    """Names of the hosts; `pi[1:9]` means nine hosts."""


class Document(Settings):
    """An inventory file."""

    fleet: Annotated[Name, AfterValidator(_no_lab), Field(examples=["home"])]
    """The fleet's name. Its state is stored in `.paddock/<fleet>/` beside this file."""

    domain: Annotated[Domain, Field(examples=["home.example"])]
    """The domain to which the fleet's certificates are limited."""

    networks: Annotated[tuple[Network, ...], Field(examples=[["192.0.2.0/24"]])] = ()
    """The networks to which the fleet's certificates are limited."""

    settle: Annotated[int, Field(ge=0, le=600)] = SETTLE_S
    """How many seconds `up` watches the services that it started, before it calls them verified."""

    upgrade: UpgradeSettings = UpgradeSettings()
    """How upgrades are judged."""

    defaults: HostDefaults = HostDefaults()
    """Keys for every host."""

    groups: dict[Name, Group] = {}
    """Groups of hosts that share keys. A group overrides `defaults`, a host overrides its groups."""

    hosts: dict[str, HostEntry]
    """The machines, by name. `pi[1:9]` means nine hosts; their address may then be a range too."""

    models: dict[ModelName, ModelEntry] = {}
    """The models, by the name that clients use in requests."""

    clients: dict[Name, Client] = {}
    """The clients, by name."""

    users: dict[Name, User] = {}
    """The users of the fleet's gateways, by name. Each has a key of its own."""
