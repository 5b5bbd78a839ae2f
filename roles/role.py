"""What every role is made of: typed settings, and text rendered from templates."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

import jinja2
from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from roles.metrics import Metrics
    from roles.package_file import PackageFile
    from roles.references import Finding, Whole
    from roles.rehearsal import Rehearsal
    from roles.server import Administration, Entrance, ImageServer, Server, Worker
    from roles.source import Source
    from roles.tracing import Tracing
    from roles.upstream import Upstream

from roles.quoting import FILTERS

TEMPLATES = Path(__file__).parent.parent / "templates"
SHELL = Path(__file__).parent.parent / "resources"
"""Shell functions that templates share with what a host does to itself: `{% include "manager.sh" %}`."""

ENDPOINT = re.compile(r"(?P<address>\[[0-9a-fA-F:]+\]|[0-9.]+):(?P<port>[0-9]{1,5})")


def _endpoint(value: str) -> str:
    match = ENDPOINT.fullmatch(value)
    if not match:
        raise ValueError(f'"{value}" is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080')
    try:
        ipaddress.ip_address(match["address"].strip("[]"))
    except ValueError:
        raise ValueError(f"{match['address']} is not an IP address") from None
    if not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"port {match['port']} is not between 1 and 65535")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""An address and a port to listen on, as text: `127.0.0.1:8080`, `[::]:443`."""


INTERFACE = re.compile(r"(?P<interface>[A-Za-z][A-Za-z0-9._-]{0,14}):(?P<port>[0-9]{1,5})")


def _at_interface(value: str) -> str:
    match = INTERFACE.fullmatch(value)
    if not match:
        return _endpoint(value)
    if match["interface"] == "localhost":
        raise ValueError(f"localhost is no network interface: write 127.0.0.1:{match['port']}")
    _endpoint(f"0.0.0.0:{match['port']}")
    return value


InterfaceEndpoint = Annotated[str, AfterValidator(_at_interface)]
"""As Endpoint, or with the name of a network interface of the host in place of an address: `eth0:8080`."""


LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def _label(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        raise ValueError(f'"{value}" cannot be a name: lower-case letters, digits and inner hyphens, 63 at most')
    return value


def _domain(value: str) -> str:
    if len(value) > 253 or not all(re.fullmatch(LABEL, label) for label in value.split(".")):
        raise ValueError(f'"{value}" is not a domain name, such as home.example')
    return value


Name = Annotated[str, AfterValidator(_label)]
"""What a host, a group, a client or a fleet is called: one DNS label."""

Domain = Annotated[str, AfterValidator(_domain)]
"""A DNS name: `ai.home.example`."""


LINE_ENDS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
"""For a class of a pattern: the control characters, and what else some reader takes for the end of a line."""


@dataclass(frozen=True)
class Matches:
    """Text of one form: `pattern` for the whole of it, and what to say of text that `"…"` it does not fit."""

    pattern: str
    words: str
    unbroken: bool = False
    """Whether a blank in it is a slip, as in a URL, and says nothing of what was meant."""

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f'"{value}" {self._blank(value) or self.words}')
        return value

    def _blank(self, value: str) -> str:
        """What to say of text that only blanks in it keep from fitting."""
        whole = re.sub(r"\s", "", value)
        return "has a space in it: leave that out" if self.unbroken and whole != value and re.fullmatch(self.pattern, whole) else ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


SHARED_DIRECTORY = re.compile(r"/|/[^/]+|/(home|var|usr|run|etc)/[^/]+|/var/lib/[^/]+")
"""Directories of the system and home directories: Paddock must not take ownership of them."""

UNPRIVILEGED_PORT = 1024
"""The first port that everybody may open (net.ipv4.ip_unprivileged_port_start)."""

CARD = r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
"""How a card is named that no other can be mistaken for: NVIDIA's UUID, or a PCI address."""


def whole_address(card: str) -> str:
    """`01:00.0` → `0000:01:00.0`; a card's other names as they are"""
    return f"0000:{card}" if len(card) == len("01:00.0") else card


PACKAGE = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]"
"""A package's name. With a hyphen at its end apt would remove the package (apt-get(8))."""

Account = Annotated[str, Matches(r"[a-z_][a-z0-9_-]*", "is not an account name: lower-case letters, digits, _ and -")]
MemoryMax = Annotated[str, Matches(r"[1-9][0-9]{0,8}[KMGT]", "is not a memory size, such as 24G")]
"""A limit of memory, in systemd's notation."""
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "is not a sha256: 64 lower-case hex digits")]


def _of_a_server(value: str) -> str:
    """A URL, where a server can be called as it says."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
        if ":" in host:
            ipaddress.ip_address(host)
        elif not host or len(host) > 253 or not all(1 <= len(each) <= 63 for each in host.removesuffix(".").split(".")):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'"{value}" names no server that could be asked: behind :// stands a name or an address, then a port if any'
        ) from None
    return value


AtServer = AfterValidator(_of_a_server)
"""Of a URL that it has a server."""

Url = Annotated[
    str, Matches(rf"https?://[^\s{LINE_ENDS}]+", "is not a URL: it must begin with http:// or https://", unbroken=True), AtServer
]


def _local_path(value: str) -> str:
    if not value or (value.startswith("~") and value.partition("/")[0] != "~"):
        raise ValueError(
            f'"{value}" is not a path on this machine: write an absolute path, a path relative to the inventory, or begin with ~/'
        )
    if len(value.encode()) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError(f'"{value}" is longer than a path can be')
    return value


@dataclass(frozen=True)
class Here:
    """Of a path on the control machine: what has to lie there before anything is done with it, a file, or a directory that `holds` these
    files."""

    holds: tuple[str, ...] = ()


LocalPath = Annotated[str, AfterValidator(_local_path)]
"""A file or directory on the control machine, as somebody wrote it: `models/small.gguf`, `~/src/llama.cpp`."""

LocalFile = Annotated[LocalPath, Here()]
"""One that `paddock check` looks for."""


def address_of(endpoint: str) -> str:
    """`[::1]:8080` → `::1`"""
    return endpoint.rpartition(":")[0].strip("[]")


def is_address(text: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def listed_as(address: str) -> str:
    """How ss lists a socket on it: one that takes IPv6 and IPv4 alike is `*`."""
    listed = str(ipaddress.ip_address(address))
    return "*" if listed == "::" else listed


def port_of(endpoint: str) -> int:
    """`[::1]:8080` → `8080`"""
    return int(endpoint.rpartition(":")[2])


def is_loopback(endpoint: str) -> bool:
    """Whether only its own host reaches it: `127.0.0.1:8080`"""
    return ipaddress.ip_address(address_of(endpoint)).is_loopback


def loopback_of(endpoint: str) -> str:
    """`0.0.0.0:8080` → `127.0.0.1:8080`"""
    return f"{'[::1]' if ':' in address_of(endpoint) else '127.0.0.1'}:{port_of(endpoint)}"


def interface_of(endpoint: str) -> str:
    """`eth0:8080` → `eth0`; empty where it has an address."""
    match = INTERFACE.fullmatch(endpoint)
    return match["interface"] if match else ""


def with_address(endpoint: str) -> str:
    """`eth0:8080` → `0.0.0.0:8080`, as others see it, who reach a host at one address; what has an address as it is."""
    return f"0.0.0.0:{port_of(endpoint)}" if interface_of(endpoint) else endpoint


def is_privileged(endpoint: str) -> bool:
    """Whether only root can listen there, or who has CAP_NET_BIND_SERVICE: `0.0.0.0:443`."""
    return port_of(endpoint) < UNPRIVILEGED_PORT


class Settings(BaseModel):
    """Settings that somebody writes by hand: frozen, and a key nobody knows is an error. A docstring below a field is its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@cache
def meanings(settings: type[BaseModel]) -> Mapping[str, str]:
    """What the docstrings below the fields say, inherited fields too. It reads the source, which not every run should take the time for."""
    found = {}
    for each in reversed(settings.__mro__):
        source = ""
        if issubclass(each, Settings):
            with suppress(OSError):  # of a class that was made by a function there is none
                source = dedent(inspect.getsource(each))
        body = [statement for defined in ast.parse(source).body if isinstance(defined, ast.ClassDef) for statement in defined.body]
        for pair in pairwise(body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = inspect.cleandoc(words)
    return {name: words for name, words in found.items() if name in settings.model_fields}


@dataclass(frozen=True)
class RequiredAccount:
    """An account that has to be on the host before the role can be there. `key` names it in the role's settings: `accounts.ann`."""

    name: str
    key: str
    own_group: bool = False
    """Whether it needs a group of its own name."""


class RoleSettings(Settings):
    """What an inventory may say of one role on one host. The methods are what the rest of the program asks of every role."""

    def endpoints(self) -> Iterator[str]:
        """Where this role listens, each as `ADDRESS:PORT`."""
        yield from ()

    # What the control machine makes, fetches and looks at

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        """The keys that programs show each other and that Paddock makes: name and description, `("api-key.ai", "API key of ai")`."""
        yield from ()

    def irreplaceable(self, host: str) -> Iterator[tuple[str, str]]:
        """Of these the ones that are not replaced: name, and what another value would do: `("gateway-pepper", "no key …")`."""
        yield from ()

    def suite_in_lab(self) -> str:
        """The suite of Debian that a lab host has to have for this role; empty where the lab's own will do."""
        return ""

    def required_accounts(self) -> Iterator[RequiredAccount]:
        """The accounts that somebody else makes on the host."""
        yield from ()

    def server_names(self) -> Iterator[tuple[str, str]]:
        """The names that need a server certificate of the fleet's CA, each with its key: `("ai.home.example", "sites")`."""
        yield from ()

    def identities(self) -> Iterator[tuple[str, str]]:
        """The accounts that keep a client's certificate and key on the host: account and client."""
        yield from ()

    def package_files(self) -> Iterator[tuple[str, str, PackageFile]]:
        """The package files that go before the distribution's: name of the package, key, file; `("caddy", "package", …)`."""
        yield from ()

    def program(self) -> str | None:
        """The project in services/ that this host runs from wheels, in an environment of its own: `gateway`."""
        return None

    def modules(self) -> str:
        """The directory in services/ whose files a container of this host reads: `litellm/paddock_litellm`; empty where none does."""
        return ""

    def accepts(self) -> tuple[str, ...]:
        """Units and drop-ins of somebody else's that may change what runs on this host, by their paths."""
        return ()

    def gives_models(self) -> bool:
        """Whether other hosts may take files of models from this one."""
        return False

    def brings_images(self) -> bool:
        """Whether the images of this host's stacks come from the control machine."""
        return False

    def contains_cards(self) -> bool:
        """Whether containers of this role get NVIDIA's cards, where the host has some."""
        return False

    # The same role in a lab, and under verification

    def rehearsed(self, here: Rehearsal) -> tuple[RoleSettings | None, list[str]]:
        """The settings on a lab host, None where a lab cannot have the role, and a sentence for each thing that was replaced."""
        return here.moved(self)

    def verified(self, clients: frozenset[str]) -> Self:
        """The settings as checks are to see them, where these clients are let in and no others."""
        return self

    # What the fleet's queries ask (inventory/fleet.py). A role that has no part in it says nothing.

    def servers(self, host: str, first_card: int = 0) -> Iterator[Server]:
        """The llama-servers of this host, a router first; `first_card` is the number of its first card."""
        yield from ()

    def image_servers(self, host: str) -> Iterator[ImageServer]:
        """What makes images on this host."""
        yield from ()

    def entrances(self, host: str, address: str, clients: tuple[str, ...]) -> Iterator[Entrance]:
        """The sites by which others reach a llama-server; `clients` are all of the fleet's."""
        yield from ()

    def asks(self, host: str) -> Iterator[Upstream]:
        """The llama-servers that this role asks for its own callers, beside a reverse proxy's sites: a host stands for all that it has.
        Callers who are strangers to each other share these servers."""
        yield from ()

    def front(self) -> str:
        """`ADDRESS:PORT` at which a reverse proxy on its host reaches the gateway, LiteLLM or Langfuse; empty where it is none of them, or
        has no such address."""
        return ""

    def administration(self, host: str) -> Administration | None:
        """The admin endpoint of this host, at the address that it listens on."""
        return None

    def worker(self, host: str) -> Worker | None:
        """What computes on this host for llama-servers of others."""
        return None

    def tracing(self, host: str) -> Tracing | None:
        """Where this host takes traces of requests."""
        return None

    def shown_metrics(self, host: str) -> Iterator[Metrics]:
        """Where this role's services show metrics, but for llama-servers."""
        yield from ()

    def watches(self, host: str) -> bool:
        """Whether it reads the metrics of that host."""
        return False

    def model_directory(self) -> str | None:
        """Where the models' files lie on this host."""
        return None

    def first_card(self) -> int | None:
        """The number of this host's first card."""
        return None

    def graphics_mib(self) -> int:
        """What of this host's memory the graphics in its processor may take; 0 where it is not said."""
        return 0

    def llama_cpp_source(self) -> Source | None:
        """The source of the llama.cpp that serves here."""
        return None

    def pinned(self, digests: Mapping[str, str]) -> Self:
        """The settings with the sha256 of their source: source distribution → sha256, as the lock has it."""
        return self

    # What `paddock check` asks (inventory/references.py, inventory/summary.py).

    listens_by_family: ClassVar[bool] = False
    """Whether it opens a socket for IPv4 and one for IPv6 where it is given both, so that the two do not clash."""

    guards_ports: ClassVar[bool] = False
    """Whether it keeps callers away from ports that only the fleet's reverse proxies are to reach."""

    rolls_back: ClassVar[bool] = False
    """Whether `paddock rollback` puts back how it was. What lets somebody in, or has data of its own, is always as the inventory says."""

    admits_users: ClassVar[bool] = False
    """Whether the keys of the inventory's users open something here."""

    def user_database(self, host: str) -> str:
        """What keeps the users who are made at run time, where this role admits users: two hosts that give the same share it.
        Empty where there are none but those whom the inventory declares."""
        return host

    def public_models(self) -> Iterator[str]:
        """The names by which users may ask for models here, beyond those of the fleet's models and their aliases."""
        yield from ()

    def apart(self, endpoint: str) -> str:
        """What to do where it would listen there twice."""
        return "give each a port of its own"

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        """The roles that have to be on the same host, each with what to say where one is not."""
        return {}

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """What is wrong with this host's settings beside the rest of the fleet: names that lead nowhere, what is out of reach."""
        yield from ()

    def details(self) -> Iterable[str]:
        """What a line on the host says of the role: the models that it serves, its sites."""
        return ()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, SHELL]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,  # to look at each file again for each host takes a tenth of all rendering
        autoescape=False,  # what lands are configuration files, not HTML
    )
    environment.filters.update(FILTERS)
    return environment


def render(template: str, settings: Settings | None = None, **values: Any) -> str:
    """The text of `templates/<template>`, in which the settings' fields and `values` are names. An undefined name raises."""
    fields = {name: getattr(settings, name) for name in type(settings).model_fields} if settings else {}
    return _environment().get_template(template).render(**fields, **values)
