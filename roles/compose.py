"""A role's containers as a Compose project: made of data and written out, never pasted together as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from resources import UNOPENED, Container, Directory, File, Image, Port, Resource, Stack, Volume, digest
from resources.stack import DECLARED, PREFIX
from roles.role import address_of

DIRECTORY = "/etc/paddock/stacks"

LOGS = {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}}
"""Rotated for each container, whatever the engine is set to."""


@dataclass(frozen=True, kw_only=True)
class Contained:
    """A container as a role wants it. What it does not ask for it does not get: it runs read-only, without capabilities, and cannot gain
    privileges.

    `reads` are files by their place in the container, `keeps` volumes by theirs; `temporary` are places that are writable until it ends.
    `sockets` are directories of the host by their place in the container, which it does not write to: it calls sockets there.
    `env_files` hold the variables that are secret, for an image that reads them nowhere else: compose.yml has their paths alone.
    `publishes` are the host's ports with the container's. `memory` is a size as Compose has it (`2048m`), `health` a command that succeeds
    while it is well, `stop_s` the seconds that it has to end in (0: Docker's own ten), `after` the containers that have to be well before
    it starts, `cards` are named as CDI names devices (`nvidia.com/gpu=GPU-…`).
    """

    image: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    env_files: tuple[File, ...] = ()
    reads: Mapping[str, File] = field(default_factory=dict)
    keeps: Mapping[str, Volume] = field(default_factory=dict)
    sockets: Mapping[str, str] = field(default_factory=dict)
    temporary: tuple[str, ...] = ()
    publishes: tuple[tuple[Port, int], ...] = ()
    user: str = ""
    memory: str = ""
    cpus: float = 0.0
    health: tuple[str, ...] = ()
    start_s: int = 60
    stop_s: int = 0
    after: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    read_only: bool = True

    @property
    def definition(self) -> dict[str, Any]:
        """As Compose has it, what is not asked for left out."""
        ports = [
            {"target": inside, "published": str(port.number), "host_ip": address, "protocol": port.protocol, "mode": "host"}
            for port, inside in self.publishes
            for address in port.addresses
        ]
        files = [{"type": "bind", "source": file.path, "target": at, "read_only": True} for at, file in self.reads.items()]
        # The directory, and no socket in it: one that is opened anew is another file.
        directories = [{"type": "bind", "source": path, "target": at, "read_only": True} for at, path in self.sockets.items()]
        volumes = [{"type": "volume", "source": volume.name, "target": at} for at, volume in self.keeps.items()]
        check = {"test": ["CMD", *self.health], "interval": "5s", "timeout": "10s", "retries": 6, "start_period": f"{self.start_s}s"}
        said: dict[str, Any] = {
            "image": self.image,
            "restart": "unless-stopped",
            "init": True,  # with it, a program that is told to end does, which the first process of a container may ignore
            "entrypoint": list(self.entrypoint),
            "command": list(self.command),
            "user": self.user,
            "environment": dict(self.environment),
            "env_file": [file.path for file in self.env_files],
            "volumes": files + directories + volumes,
            "tmpfs": list(self.temporary),
            "ports": ports,
            "mem_limit": self.memory,
            "cpus": self.cpus,
            "healthcheck": check if self.health else {},
            "stop_grace_period": f"{self.stop_s}s" if self.stop_s else "",
            "depends_on": {each: {"condition": "service_healthy"} for each in self.after},
            "cap_drop": ["ALL"],
            "cap_add": list(self.capabilities),
            "security_opt": ["no-new-privileges:true"],
            "read_only": self.read_only,
            "logging": LOGS,
            "devices": list(self.cards),
        }
        return {name: value for name, value in said.items() if value}

    @property
    def files(self) -> tuple[File, ...]:
        """All that it is made of beside its definition."""
        return (*self.reads.values(), *self.env_files)

    @property
    def declared(self) -> str:
        """Sixteen hex digits over all that it is made of and reads; UNOPENED where that hangs on what nobody here can open."""
        if any(file.is_unopened for file in self.files):
            return UNOPENED
        made_of = json.dumps(self.definition, sort_keys=True) + digest(self.files)
        return hashlib.sha256(made_of.encode()).hexdigest()[:16]


def stack(name: str, wanted: Mapping[str, Contained], *, ready_timeout_s: int = 120, brought: bool = False) -> Iterator[Resource]:
    """All that a stack is, the files that its containers read aside: the role declares them, in `directory_of` the stack. Images that are
    `brought` have the names that the host then knows them by."""
    directory = directory_of(name)
    images = {one.image: Image(one.image, brought) for one in wanted.values()}
    wanted = {each: replace(one, image=images[one.image].name) for each, one in wanted.items()}
    containers = tuple(Container(each, one.image, one.declared, bool(one.health)) for each, one in wanted.items())
    compose = File(f"{directory}/compose.yml", _text(name, wanted), mode=0o640)
    volumes = {volume.id: volume for one in wanted.values() for volume in one.keeps.values()}
    read = {file.id: file for one in wanted.values() for file in one.files}
    yield Directory(DIRECTORY)
    yield Directory(directory, exclusive=True)
    yield from images.values()
    yield from volumes.values()
    yield compose
    yield Stack(
        name,
        directory,
        containers=containers,
        reads=(compose, *read.values()),
        ports=tuple(port for one in wanted.values() for port, _ in one.publishes),
        ready_timeout_s=ready_timeout_s,
    )


def published_at(listen: str) -> tuple[str, ...]:
    """The addresses at which Docker publishes what listens so: one port for each family, where a program has one for both."""
    address = address_of(listen)
    return ("0.0.0.0", "::") if address == "::" else (address,)


def directory_of(name: str) -> str:
    """Where its compose.yml lies, and what its containers read."""
    return f"{DIRECTORY}/{name}"


def volume(stack: str, name: str) -> Volume:
    """One of a stack: `paddock-litellm-data`."""
    return Volume(f"{PREFIX}{stack}-{name}", stack)


def _text(name: str, wanted: Mapping[str, Contained]) -> str:
    """Of its compose.yml; UNOPENED where a digest in it is."""
    if any(one.declared == UNOPENED for one in wanted.values()):
        return UNOPENED
    volumes = {volume.name: {"external": True, "name": volume.name} for one in wanted.values() for volume in one.keeps.values()}
    said: dict[str, Any] = {
        "name": f"{PREFIX}{name}",
        "services": {each: {**_escaped(one.definition), "labels": {DECLARED: one.declared}} for each, one in wanted.items()},
        **({"volumes": volumes} if volumes else {}),
    }
    return "# Written by Paddock.\n" + yaml.safe_dump(said, sort_keys=False, width=120)


def _escaped(value: Any) -> Any:
    """A dollar sign doubled: Compose would put a variable in its place."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return {key: _escaped(each) for key, each in value.items()} if isinstance(value, dict) else value
