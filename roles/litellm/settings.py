"""What an inventory may say of LiteLLM's proxy on a host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from roles.front import PEPPER, PublicModel, PublicName, offers_nothing, taken_names
from roles.image import ImageReference
from roles.references import Finding, Whole
from roles.role import Endpoint, MemoryMax, Name, RoleSettings, Settings, address_of, is_loopback, is_privileged, loopback_of, port_of
from roles.upstream import Upstream, shown
from roles.users import Count, UserLimits

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

VERSION = "1.108.7"
"""What services/litellm/pyproject.toml pins."""

BAD: Mapping[str, str] = {
    "1.82.7": "was malware (March 2026)",
    "1.82.8": "was malware (March 2026)",
    "1.107.": "was withdrawn by its authors, all of 1.107",
}
"""Versions that nobody should run, or what theirs begin with, each with the reason."""

MODULES = "litellm/paddock_litellm"
"""What of services/ a container of LiteLLM's own image is given."""

WINDOW_S = 60


class Health(Settings):
    """When a llama-server counts as gone. LiteLLM learns it from the requests that it passes on: its own health checks would ask each model
    for tokens, and wake those that sleep."""

    failures: Annotated[int, Field(ge=1, le=100)] = 2
    """Failures within a minute after which it gets no requests for a while."""

    cooldown_s: Annotated[float, Field(gt=0, le=31 * 24 * 3600, allow_inf_nan=False)] = 60.0
    """How long that is, in seconds."""

    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a request is tried again, at another server where there is one."""


class AllTogether(Settings):
    """What all users and models together may ask."""

    parallel: Count | None = None
    """Requests at once."""


class LitellmSettings(RoleSettings):
    """LiteLLM's proxy before llama-servers, configured by a file and without a database. Users' keys are those of the inventory.
    docs/litellm.md is its manual."""

    admits_users: ClassVar[bool] = True

    listen: Endpoint = "127.0.0.1:4000"
    """The listening address. LiteLLM speaks plain HTTP."""

    upstream: Upstream | None = None
    """The llama-servers behind it, as of the role gateway; by default all of this host."""

    models: dict[PublicName, PublicModel] = {}
    """The models that users may ask for, by the name that they use, as of the role gateway. By default all models of the servers behind
    it, under their own names and aliases. LiteLLM counts limits by the minute and by server: a model's are shared out among its servers."""

    routing: Literal["least-busy", "simple-shuffle", "usage-based-routing-v2", "latency-based-routing"] = "least-busy"
    """How LiteLLM chooses among servers of one model."""

    default_limits: UserLimits = UserLimits()
    """The limits of each user who has none of their own."""

    global_limits: AllTogether = AllTogether()
    """The limits of all users and models together."""

    health: Health = Health()
    """When a server counts as gone."""

    langfuse: Name | None = None
    """The host whose Langfuse gets a trace of each request, with what is asked and answered; by default none does. Requires `runtime:
    container`: the packages that Paddock brings do not have Langfuse's."""

    timeout_s: Annotated[int, Field(ge=1, le=24 * 3600)] = 600
    """Seconds that an answer may take."""

    metrics: bool = True
    """Have `/metrics` for Prometheus, which needs no key."""

    version: str = VERSION
    """The version, which Paddock brings: there is one. In a container it is the image's."""

    runtime: Literal["native", "container"] = "native"
    """`container`: it runs in a container of `image`, in place of an environment of Paddock's. Requires the role `docker`. Names, address,
    keys and limits stay the same."""

    image: ImageReference | None = None
    """LiteLLM's image for `runtime: container`, with its digest: `ghcr.io/berriai/litellm:main-stable@sha256:…`."""

    memory_max: MemoryMax | None = "2G"
    """Its memory limit, in systemd's notation."""

    @field_validator("image")
    @classmethod
    def _harmless(cls, value: str | None) -> str | None:
        """As far as its tag says which version it has."""
        for version in re.findall(r"[0-9]+\.[0-9]+\.[0-9]+", (value or "").partition("@")[0].rpartition(":")[2]):
            if reason := _why_bad(version):
                raise ValueError(f"LiteLLM {version} {reason}: choose another version")
        return value

    @field_validator("version")
    @classmethod
    def _there(cls, value: str) -> str:
        if reason := _why_bad(value):
            raise ValueError(f"LiteLLM {value} {reason}: leave version out, which is {VERSION}")
        if value != VERSION:
            raise ValueError(f"this Paddock brings LiteLLM {VERSION} with its digests, and no {value}: leave version out")
        return value

    @model_validator(mode="after")
    def _countable(self) -> LitellmSettings:
        taken_names(self.models)
        said = {f"models.{name}.limits": each.limits for name, each in self.models.items()} | {"default_limits": self.default_limits}
        for where, limits in said.items():
            if limits.window_s != WINDOW_S:
                raise ValueError(f"{where}.window_s: LiteLLM counts by the minute: leave window_s out")
        return self

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield PEPPER, "what the gateways' keys are kept with"
        yield master_key_name(host), f"master key of {host}'s LiteLLM"
        yield salt_key_name(host), f"what {host}'s LiteLLM encrypts with"

    def program(self) -> str | None:
        return "litellm" if self.runtime == "native" else None

    def modules(self) -> str:
        return MODULES if self.runtime == "container" else ""

    def user_database(self, host: str) -> str:
        return ""

    def asks(self, host: str) -> Iterator[Upstream]:
        yield self.upstream or host

    def front(self) -> str:
        return called_at(self.listen)

    def public_models(self) -> Iterator[str]:
        for name, entry in self.models.items():
            yield from (name, *entry.aliases)

    def details(self) -> Iterable[str]:
        return (self.listen,)

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """It leads to servers that there are and that it reaches; its models are theirs."""
        yield from offers_nothing("litellm", host, self.upstream, self.models, fleet)
        if self.langfuse:
            yield from self._traced(host, self.langfuse, fleet)
        if self.runtime == "container":
            yield from self._contained(host, fleet)
        elif is_privileged(self.listen):
            words = f"{self.listen} is a port that only root may open: take one above 1023"
            yield Finding(("roles", "litellm", "listen"), words, of_value=True)

    def _contained(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """What a container needs, and cannot reach."""
        at = ("roles", "litellm", "runtime")
        if "docker" not in fleet.roles[host]:
            yield Finding(at, f"a container needs an engine: add the role docker to {host}", of_value=True)
        if not self.image:
            words = "which image? name LiteLLM's with its digest, `image: ghcr.io/berriai/litellm:main-stable@sha256:…`"
            yield Finding(at, words, of_value=True)
        for each in fleet.every_behind(self.upstream or host):
            on = ip_address(each.address)
            if each.host == host and not each.socket and (on.is_loopback or on.is_unspecified):
                words = f"{shown(each)} runs as an account and has no socket, so that a container cannot reach it"
                yield Finding(at, f"{words}: leave out `user` of its llama_server, or `runtime` here", of_value=True)

    def _traced(self, host: str, where: str, fleet: Whole) -> Iterator[Finding]:
        """Why no traces get there."""
        at, there = ("roles", "litellm", "langfuse"), fleet.roles.get(where, {})
        if where not in fleet.roles:
            yield Finding(at, fleet.no_host(where), of_value=True)
        elif "langfuse" not in there:
            yield Finding(at, f"there is no Langfuse on {where}: add the role langfuse to it", of_value=True)
        elif self.runtime == "native":
            words = "the packages that Paddock brings do not have Langfuse's: set `runtime: container`, or leave langfuse out"
            yield Finding(at, words, of_value=True)
        elif (settings := there["langfuse"]) and (found := settings.tracing(where)) and not found.url and is_loopback(found.listen):
            words = f"langfuse on {where} listens on {found.listen}, out of a container's reach"
            better = f"set for example 0.0.0.0:{port_of(found.listen)} there, or the url of a reverse proxy before it"
            yield Finding(at, f"{words}: {better}", of_value=True)

    def rehearsed(self, here: Rehearsal) -> tuple[LitellmSettings, list[str]]:
        moved, told = here.moved(self)
        if self.runtime == "container":
            told.append(f"{here.host}: litellm runs natively: a lab has none of its images.")
        if self.langfuse:
            told.append(f"{here.host}: litellm sends no traces: a lab has no Langfuse.")
        return moved.model_copy(update={"runtime": "native", "langfuse": None}), told


def _why_bad(version: str) -> str:
    """Why nobody should run it; empty where nothing is known against it."""
    return next((reason for bad, reason in BAD.items() if version == bad or (bad.endswith(".") and version.startswith(bad))), "")


def called_at(listen: str) -> str:
    """`ADDRESS:PORT` by which a caller on the same host reaches it."""
    return loopback_of(listen) if address_of(listen) in ("0.0.0.0", "::") else listen


def master_key_name(host: str) -> str:
    """The name of the secret that LiteLLM's administrator shows."""
    return f"litellm-master.{host}"


def salt_key_name(host: str) -> str:
    """The name of the secret with which LiteLLM encrypts what it keeps. It must not change."""
    return f"litellm-salt.{host}"
