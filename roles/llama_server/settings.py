from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from roles.expiry import ExpirySettings
from roles.image import ImageReference
from roles.preset import CONTROL, Preset, PresetOption
from roles.role import Account, InterfaceEndpoint, Matches, MemoryMax, Name, RequiredAccount, RoleSettings, Settings, port_of
from roles.secret_value import SecretValue

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal
from roles.references import Finding, Whole
from roles.role import UNPRIVILEGED_PORT, interface_of, is_privileged, with_address
from roles.server import Card, Server
from roles.wording import quoted

ROUTER = "llama-server"
"""What the router is called."""


PADDOCKS = re.compile(
    r"(?P<option>LLAMA_ARG_.*|LLAMA_API_KEY|HF_TOKEN|MTMD_BACKEND_DEVICE)|(?P<own>LLAMA_(SERVER|APP)_.*|AIP_.*)"
    r"|(?P<systemd>INVOCATION_ID|JOURNAL_STREAM|LISTEN_.*|MAINPID|NOTIFY_SOCKET|SYSTEMD_.*|WATCHDOG_.*|[A-Z]+_DIRECTORY)"
)
"""Variables that are not an inventory's to set: options of llama-server (common/arg.cpp: set_env), what its processes tell each other or
take from a cloud (tools/server), and what systemd says to what it starts (systemd.exec(5))."""

WHOSE = {
    "option": "is an option of llama-server: write it in `preset`, or see `api_key`",
    "own": "would change how llama-server is called or what its processes tell each other",
    "systemd": "is systemd's to set",
}


def _variable(name: str) -> str:
    if found := PADDOCKS.fullmatch(name):
        raise ValueError(f'"{name}" {WHOSE[str(found.lastgroup)]}')
    return name


PRESENCE = re.compile(
    r"GGML_CUDA_(ENABLE_UNIFIED_MEMORY|NO_PINNED|DISABLE_GRAPHS|P2P|REGISTER_HOST)|GGML_VK_(DISABLE|ALLOW|PREFER|ENABLE)_.*|GGML_DISABLE_VULKAN"
)
"""Variables of which ggml asks whether they are there, not what they are (ggml-cuda.cu, ggml-vulkan.cpp: getenv)."""

OFF = ("0", "off", "false", "no", "")


def _switched(environment: dict[str, Any]) -> dict[str, Any]:
    for name, value in environment.items():
        if PRESENCE.fullmatch(name) and str(value).lower() in OFF:
            raise ValueError(f'"{name}" is on whatever its value is: leave it out, and set it only where it is to be on')
    return environment


def _line(value: str | float) -> str | float:
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError("has a line break or another control character in it, which a unit cannot hold")
    return value


VariableName = Annotated[str, Matches(r"[A-Za-z_][A-Za-z0-9_]{0,254}", "is no name of a variable"), AfterValidator(_variable)]
Variable = Annotated[str | int | float, AfterValidator(_line)] | SecretValue
Environment = Annotated[dict[VariableName, Variable], AfterValidator(_switched)]


class InstanceSettings(Settings):
    """A llama-server with one fixed model, or several identical ones."""

    model: str
    """A name from the fleet's `models`. Clients use it in requests."""

    listen: InterfaceEndpoint
    """The listening address, or a network interface as in `eth0:8081`; of several servers, that of the first. The others use the following
    ports."""

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """The port of each server, if the ports are not consecutive."""

    count: Annotated[int, Field(ge=1, le=64)] | None = None
    """The number of servers; by default the number of entries in `gpus`, else one."""

    gpus: tuple[Card | Annotated[tuple[Card, ...], Field(min_length=1)], ...] = ()
    """The card of each server, `[1, 2, 3]`, or its cards, `[[0, 1], [2, 3]]`. A server sees no other card. By default each server sees all
    cards."""

    preset: Preset = {}
    """Options for this instance; they override those of the model and the role."""

    environment: Environment = {}
    """Environment variables of this instance; they override those of the role."""

    memory_max: MemoryMax | None = None
    """The memory limit of each server, in systemd's notation: `2G`."""

    workers: tuple[Name, ...] = ()
    """Hosts with the role `rpc_worker` that compute a part of the model: `[big, spare]`. Its layers are split over their devices and this
    host's own."""

    @model_validator(mode="after")
    def _one_for_its_workers(self) -> InstanceSettings:
        if self.workers and self.many > 1:
            raise ValueError(f"is {self.many} servers, and a worker computes for one: leave `workers` out, or `count`, `ports` and `gpus`")
        return self

    @model_validator(mode="after")
    def _as_many(self) -> InstanceSettings:
        said = {name: number for name, number in (("count", self.count), ("gpus", len(self.gpus)), ("ports", len(self.ports))) if number}
        if len(set(said.values())) > 1:
            raise ValueError(f"has different numbers of servers: {', '.join(f'{name} has {number}' for name, number in said.items())}")
        if self.ports and self.ports[0] != port_of(self.listen):
            raise ValueError(f"listens on {self.listen}, but the first of its ports is {self.ports[0]}: make the two ports equal")
        if port_of(self.endpoints()[-1]) > 65535:
            raise ValueError(f"there are not as many ports above {self.listen}")
        return self

    @property
    def many(self) -> int:
        return self.count or len(self.gpus) or len(self.ports) or 1

    def endpoints(self) -> tuple[str, ...]:
        """The listening address of each server."""
        where, _, first = with_address(self.listen).rpartition(":")
        return tuple(f"{where}:{port}" for port in self.ports or range(int(first), int(first) + self.many))

    def cards(self) -> tuple[tuple[Card, ...], ...]:
        """The cards of each server; empty if it may use all."""
        return tuple(each if isinstance(each, tuple) else (each,) for each in self.gpus) or ((),) * self.many

    def rehearsed(self, name: str, here: Rehearsal) -> tuple[InstanceSettings, list[str]]:
        """As many servers on the same ports, on the processor."""
        key = f"{here.role}.instances.{name}"
        moved, told = here.moved(self, key)
        preset, more = here.on_the_processor(self.preset, key)
        moved, told = moved.model_copy(update={"preset": preset}), [*told, *more]
        if not self.gpus:
            return moved, told
        told.append(f"{here.host}: {key}: {self.many} as in the inventory, on no card.")
        return moved.model_copy(update={"gpus": (), "count": self.many}), told


def _not_root(account: str) -> str:
    if account == "root":
        raise ValueError("must not be root: name another account, or leave it out to run system services")
    return account


class LlamaServerSettings(RoleSettings):
    """llama-server as a router, which starts a worker process for a model at its first request, as instances with fixed models, or both."""

    rolls_back = True

    listen: InterfaceEndpoint = "127.0.0.1:8080"
    """The router's listening address, or a network interface of the host, at whose address it listens: `eth0:8080`. Use loopback unless a
    reverse proxy on another host must reach it."""

    models: tuple[str, ...] = ()
    """The router's models: names from the fleet's `models`, listed in this order. If empty, there is no router."""

    models_max: Annotated[int, Field(ge=0, le=1000)] = 1
    """The most models in memory at a time; 0 means no limit, and then no model can have `load-on-startup`."""

    autoload: bool = True
    """Load a model when a request names it."""

    preset: Preset = {}
    """Options for every model: llama-server's long options without dashes: `{ctx-size: 8192, cache-type-k: q8_0}`."""

    environment: Environment = {}
    """Environment variables of all servers and of a router's workers: `{GGML_CUDA_ENABLE_UNIFIED_MEMORY: 1, TOKEN: {secret: my-token}}`.
    A secret stands in a file that only root reads."""

    opens: tuple[PresetOption, ...] = ()
    """Options that presets may use although they let llama-server do more than answer with its models: `[slot-save-path]`. Without their
    names here Paddock refuses `path`, `media-path`, `slot-save-path`, `log-prompts-dir`, `log-file`, `video-ffmpeg-dir` and `rpc`."""

    memory_max: MemoryMax | None = None
    """The memory limit of the router with its models, in systemd's notation: `24G`."""

    instances: dict[Name, InstanceSettings] = {}
    """Servers with one fixed model each. `{chat: {model: chat, listen: "127.0.0.1:8081", gpus: [1, 2, 3]}}` means three servers, one card
    each."""

    encrypted: bool = True
    """Let reverse proxies on other hosts reach the servers through an encrypted tunnel alone, whose two ends show certificates of the
    fleet's CA. With `false` prompts and answers are clear text on the network, and whoever has the reverse proxy's address is let in."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings before the tunnel's certificates expire."""

    egress: bool = False
    """Let the servers connect to other machines, for example to fetch an `image_url` that a request names. By default a server reaches
    only the RPC servers that its presets name. Whoever may ask a server with `egress` can have it call any address."""

    rpc_port: Annotated[int, Field(ge=1024, le=65535)] = 50060
    """The port on loopback by which an instance reaches its first worker; the others use the following ports."""

    drain_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """How many seconds the answers that a server is giving have to end before it is restarted. What comes meanwhile waits."""

    wait_s: Annotated[int, Field(ge=1, le=3600)] = 120
    """How many seconds a request waits for a server that is being restarted, or that reads its model. Then it fails."""

    user: Annotated[Account, AfterValidator(_not_root)] | None = None
    """Run the servers as user services of this account; they also run while it is not logged in. By default they are system services, which
    have a tighter sandbox."""

    runtime: Literal["native", "container"] = "native"
    """`container`: each server runs in a container, of an image with the host's release that the host builds. Requires the role `docker`
    and `base_image`. Names, addresses, keys and limits stay the same."""

    base_image: ImageReference | None = None
    """What that image is built on, with its digest: `docker.io/library/debian:13@sha256:…`. What the release needs and the base lacks is
    installed with apt-get; for CUDA the base needs CUDA's own libraries."""

    api_key: bool = False
    """Require an API key. Paddock makes it; `paddock secrets show api-key.HOST` shows it."""

    def endpoints(self) -> Iterator[str]:
        if self.models:
            yield with_address(self.listen)
        for each in self.instances.values():
            yield from each.endpoints()
        yield from self._tunnels()

    def contains_cards(self) -> bool:
        return self.runtime == "container"

    def _tunnels(self) -> Iterator[str]:
        """Where the instances reach their workers on this host, in the inventory's order."""
        workers = [worker for each in self.instances.values() for worker in each.workers]
        yield from (f"127.0.0.1:{port}" for port in range(self.rpc_port, self.rpc_port + len(workers)))

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        if self.api_key:
            yield api_key_name(host), f"API key of {host}"

    def required_accounts(self) -> Iterator[RequiredAccount]:
        if self.user:
            yield RequiredAccount(self.user, "user")

    def rehearsed(self, here: Rehearsal) -> tuple[LlamaServerSettings, list[str]]:
        moved, told = here.moved(self)
        preset, more = here.on_the_processor(self.preset)
        instances, told = {}, [*told, *more]
        for name, each in self.instances.items():
            instances[name], more = each.rehearsed(name, here)
            told += more
        expiry, more = self.expiry.rehearsed(here)
        return moved.model_copy(update={"preset": preset, "instances": instances, "expiry": expiry}), [*told, *more]

    def servers(self, host: str, first_card: int = 0) -> Iterator[Server]:
        """The router first, where there is one, then the instances in the inventory's order."""
        alike: dict[str, Any] = {"count_from": first_card, "api_key": self.api_key, "key_name": api_key_name(host), "shared": self.preset}
        alike |= {
            "opens": frozenset(self.opens),
            "egress": self.egress,
            "encrypted": self.encrypted,
            "wait_s": self.wait_s,
            "drain_s": self.drain_s,
            "runtime": self.runtime,
        }
        if self.user:
            alike |= {"scope": "user", "user": self.user}
        if self.models:
            own, unit = dict(self.preset), f"{ROUTER}.service"
            alone: dict[str, Any] = {"models_max": self.models_max, "memory_max": self.memory_max, **alike}
            alone["interface"] = interface_of(self.listen)
            yield Server(host, ROUTER, unit, with_address(self.listen), self.models, "router", own, **alone)
        tunnels = self._tunnels()
        for group, each in self.instances.items():
            endpoints, reached = each.endpoints(), tuple(islice(tunnels, len(each.workers)))
            for number, (listen, gpus) in enumerate(zip(endpoints, each.cards(), strict=True), 1):
                name = f"{group}-{number}" if len(endpoints) > 1 else group
                own, unit = dict(each.preset), f"{ROUTER}-{name}.service"
                more: dict[str, Any] = {"group": group, "gpus": gpus, "memory_max": each.memory_max, **alike}
                more |= {"workers": each.workers, "tunnels": reached, "interface": interface_of(each.listen)}
                yield Server(host, name, unit, listen, (each.model,), "instance", own, **more)

    def details(self) -> Iterable[str]:
        return dict.fromkeys((*self.models, *(each.model for each in self.instances.values())))

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"llama_cpp": f"llama_server needs llama.cpp on the same host: add the role llama_cpp to {host}"}

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """A server names at least one model, each once, which the fleet has and whose file something puts on the host."""
        at = ("roles", "llama_server")
        if not self.models and not self.instances:
            known = ", ".join(list(fleet.models)[:8]) or "the inventory's models, of which there is none yet"
            yield Finding((*at, "models"), f"llama_server has nothing to serve: name at least one of {known}")
        listed: set[str] = set()
        for number, model in enumerate(self.models):
            yield from fleet.no_model(model, (*at, "models", str(number)))
            if model in fleet.models and model in listed:
                yield Finding((*at, "models", str(number)), f"model {quoted(model)} is named twice", of_value=True)
            listed.add(model)
        named: dict[str, str] = {}
        for each in self.servers(host):
            if (other := named.setdefault(each.name, each.group)) != each.group:
                words = (
                    f"a server of {quoted(each.group)} and one of {quoted(other)} would both be called {each.name}: rename one of the two"
                )
                yield Finding((*at, "instances", each.group), words)
        for name, instance in self.instances.items():
            yield from fleet.no_model(instance.model, (*at, "instances", name, "model"))
            yield from self._workers_of(name, instance, host, fleet)
        yield from self._ports_of_root(at)
        yield from self._contained(host, fleet)
        for each in self.servers(host) if self.user else ():
            if each.interface:
                words = f"a service of the account {self.user} opens its port itself: write an address in place of {each.interface}"
                yield Finding((*each.keys, "listen"), words, of_value=True)
        laid = [model for model in self.details() if not fleet.models.get(model, True)]
        if laid and "models" not in fleet.roles[host]:
            yield Finding(at, f"no role installs the file of model {quoted(laid[0])} on the host: add the role models to {host}")

    def _workers_of(self, name: str, instance: InstanceSettings, host: str, fleet: Whole) -> Iterator[Finding]:
        """A worker is another host of the fleet, with the role and with the same llama.cpp."""
        own = fleet.llama_cpp_source(host)
        for number, worker in enumerate(instance.workers):
            keys, words = ("roles", "llama_server", "instances", name, "workers", str(number)), ""
            if worker not in fleet.roles:
                words = f"{fleet.no_host(worker)}: workers are hosts of the fleet"
            elif worker in instance.workers[:number]:
                words = f"host {quoted(worker)} is named twice"
            elif worker == host:
                words = f"{worker} is this host, whose memory and cards the server has anyway: leave it out"
            elif "rpc_worker" not in fleet.roles[worker]:
                words = f"host {quoted(worker)} computes for nobody: add the role rpc_worker to it"
            elif own and (theirs := fleet.llama_cpp_source(worker)) and theirs != own:
                words = f"{worker} has llama.cpp {theirs.label} and {host} has {own.label}: RPC needs the same: give both the same source"
            if words:
                yield Finding(keys, words, of_value=True)

    def _contained(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """What a container needs, and cannot have."""
        at = ("roles", "llama_server", "runtime")
        if self.runtime == "native":
            return
        if "docker" not in fleet.roles[host]:
            yield Finding(at, f"a container needs an engine: add the role docker to {host}", of_value=True)
        if not self.base_image:
            words = "what is the image to be built on? name it with its digest, `base_image: debian:13@sha256:…`"
            yield Finding(at, words, of_value=True)
        if self.user:
            yield Finding(at, f"the account {self.user} cannot start containers: leave out `user`, or `runtime`", of_value=True)
        calling = [name for name, each in self.instances.items() if each.workers]
        if calling and not self.egress:
            words = f"the workers of {calling[0]} cannot be reached from a container that is alone: set `egress`, or leave out `runtime`"
            yield Finding(at, words, of_value=True)

    def _ports_of_root(self, at: tuple[str, ...]) -> Iterator[Finding]:
        """The ports that an account's own services cannot open; a system service is given the right to."""
        listening: dict[tuple[str, ...], Iterable[str]] = {(*at, "listen"): [with_address(self.listen)] if self.models else []}
        for name, each in self.instances.items():
            listening[*at, "instances", name, "ports" if each.ports else "listen"] = each.endpoints()
        for keys, endpoints in listening.items() if self.user else ():
            for low in list(filter(is_privileged, endpoints))[:1]:
                words = f"a service of the account {self.user} cannot open port {port_of(low)}"
                yield Finding(keys, f"{words}: use one from {UNPRIVILEGED_PORT} up, or leave out `user`", of_value=True)


def api_key_name(host: str) -> str:
    """The name of the secret with the API key of a host's llama-servers."""
    return f"api-key.{host}"
