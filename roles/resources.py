"""The vocabulary: what one thing on a host is to be. Nothing here knows pyinfra, an inventory or a host."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class ResourceError(ValueError):
    """A resource that no host could carry: a bug of the plan that made it."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing on a host. `id` says which (`file:/etc/caddy/Caddyfile`), `desired` how it is to be, attribute by attribute."""

    @property
    def id(self) -> str:
        raise NotImplementedError

    @property
    def desired(self) -> Mapping[str, str]:
        raise NotImplementedError

    @property
    def kind(self) -> str:
        return self.id.partition(":")[0]


@dataclass(frozen=True)
class Package(Resource):
    """A package of the distribution, or one file of a newer release of it: `deb` is its sha256, `version` its exact version."""

    name: str
    version: str = ""
    deb: str = ""

    @property
    def id(self) -> str:
        return f"package:{self.name}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"state": "installed", **({"version": self.version} if self.version else {})}


@dataclass(frozen=True)
class User(Resource):
    """A system user without a login shell, with a group of its own name."""

    name: str
    home: str
    groups: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"user:{self.name}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"home": self.home, "shell": "/usr/sbin/nologin", "groups": " ".join(sorted({self.name, *self.groups}))}


@dataclass(frozen=True)
class OnDisk(Resource):
    """What has a path."""

    path: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or CONTROL_CHARACTER.search(self.path) or "/../" in self.path:
            raise ResourceError(f"{self.path!r} is no absolute path of printable characters")


@dataclass(frozen=True)
class Owned(OnDisk):
    owner: str = field(default="root", kw_only=True)
    group: str = field(default="root", kw_only=True)
    mode: int = field(default=0o755, kw_only=True)

    @property
    def ownership(self) -> Mapping[str, str]:
        return {"owner": self.owner, "group": self.group, "mode": f"{self.mode:o}"}


@dataclass(frozen=True)
class Directory(Owned):
    """A directory. Where `exclusive`, nothing lies in it but what the plan names."""

    exclusive: bool = field(default=False, kw_only=True)

    @property
    def id(self) -> str:
        return f"directory:{self.path}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"type": "directory", **self.ownership, **({"extra": ""} if self.exclusive else {})}


@dataclass(frozen=True)
class File(Owned):
    """A file with all its content. A `secret` is never shown, and readable to root and at most one group."""

    content: str | bytes = field(repr=False)
    mode: int = field(default=0o644, kw_only=True)
    secret: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.secret and self.mode & ~0o640:
            raise ResourceError(f"{self.id}: a secret is never wider than 0640, this is {self.mode:04o}")

    @property
    def id(self) -> str:
        return f"file:{self.path}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"type": "file", **self.ownership, "sha256": self.sha256}

    @cached_property
    def data(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Line(OnDisk):
    """One line in a file that belongs to somebody else. A file that is still as its package left it counts as empty."""

    text: str

    @property
    def id(self) -> str:
        return f"line:{self.path}: {self.text}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"line": self.text}


@dataclass(frozen=True)
class Link(OnDisk):
    target: str

    @property
    def id(self) -> str:
        return f"link:{self.path}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"type": "link", "target": self.target}


@dataclass(frozen=True)
class Release(OnDisk):
    """One built llama.cpp in its own directory, `path`, and the link `current` beside `releases/` that says which one serves.

    `source` names what it is built from, `options` are CMake's, all stated, `fingerprint` is the hash of everything that went into it,
    `key` of all but the machine it is built on, `profile` says in words what it is for. `builder` is the host that compiles it, none
    where it has to be in the fleet's artifacts; `triplet` is the cross compiler's, if it takes one; with a
    `suite` it is compiled in a tree of that release of Debian, which has the packages `inside`. `jobs` are compilers at a time, which
    change nothing in the result; 0 is as many as the builder's cores and memory carry. `packages` are what it is compiled with. With `ui`,
    llama-server has its web page in it.

    Where it serves, `environment` holds, `devices` are what its `--list-devices` must then list, and `cpu_features` the flags of
    /proc/cpuinfo that its code uses.
    """

    current: str
    version: str
    fingerprint: str
    source: str
    options: tuple[tuple[str, str], ...]
    targets: tuple[str, ...]
    packages: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...] = ()
    jobs: int = 0
    key: str = ""
    profile: str = ""
    backend: str = "cpu"
    runtime_packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()
    builder: str = ""
    triplet: str = ""
    suite: str = ""
    inside: tuple[str, ...] = ()
    ui: bool = False

    @property
    def id(self) -> str:
        return f"release:{self.current}"

    @property
    def name(self) -> str:
        """`0.3.36-1f0c8a2b3c4d`"""
        return self.path.rpartition("/")[2]

    @property
    def desired(self) -> Mapping[str, str]:
        return {"fingerprint": self.fingerprint, "current": self.path}


@dataclass(frozen=True)
class ModelFile(OnDisk):
    """A GGUF. `origin` says where it comes from: `tiny`, `local PATH`, `url URL`, or `host`, where it lies already and stays the user's.

    A `size` of 0 is one that nobody knows. A file with `keep` outlives its place in the inventory.
    """

    sha256: str
    size: int
    origin: str
    keep: bool = True

    @property
    def id(self) -> str:
        return f"model:{self.path}"

    @property
    def desired(self) -> Mapping[str, str]:
        whose = {} if self.origin == "host" else {"owner": "root", "group": "root", "mode": "644"}
        return {"type": "file", **whose, **({"size": str(self.size)} if self.size else {}), "sha256": self.sha256}


@dataclass(frozen=True)
class Port(Resource):
    """What listens, and on which addresses: nothing may listen on this port anywhere else. `unit` is who listens.

    `reachable_from` are the hosts of the fleet, by name, and the addresses that may reach it, beside its own host; None is everybody whom
    its address lets in. That is so where the host carries a firewall.
    """

    number: int
    addresses: tuple[str, ...]
    unit: str
    protocol: Literal["tcp", "udp"] = "tcp"
    reachable_from: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        return f"port:{self.number}/{self.protocol}"

    @property
    def desired(self) -> Mapping[str, str]:
        return {"addresses": " ".join(sorted(self.addresses)), "unit": self.unit}


@dataclass(frozen=True)
class Service(Resource):
    """A service that runs what is declared: the system's, or with a `user` that account's own, which runs also where nobody is logged in.

    `restarts` are the resources that only a start reads, `reloads` those that a reload reads too, `runs` the ids of what other roles put
    there and only a start reads (`release:/opt/paddock/llama.cpp/current`). `ports` are what it listens on once it is ready. `validate` are
    shell commands that must succeed before a start or a reload. A `name` may be a timer's: of that only its own file counts.
    """

    name: str
    restarts: tuple[Resource, ...] = ()
    reloads: tuple[Resource, ...] = ()
    runs: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    validate: tuple[str, ...] = ()
    ready_timeout_s: int = 60
    user: str = ""

    @property
    def id(self) -> str:
        return f"service:{self.unit}"

    @property
    def unit(self) -> str:
        """`caddy.service`; with its account in front where it is a user's: `ai/llama-server.service`."""
        return f"{self.user}/{self.name}" if self.user else self.name

    @property
    def note(self) -> str:
        """What its notes in `/run` are called."""
        return self.unit.replace("/", "--")

    @property
    def desired(self) -> Mapping[str, str]:
        running = {"active": "active", "enabled": "enabled", "daemon-reload": "no"}
        return running if self.is_timer else {**running, "program": "current", "started": self.started, "loaded": self.loaded}

    @property
    def is_timer(self) -> bool:
        """A timer runs no program that could note what it was started with: systemd has read its file, or `daemon-reload` says not."""
        return self.name.endswith(".timer")

    @cached_property
    def started(self) -> str:
        return digest(self.restarts)

    @cached_property
    def loaded(self) -> str:
        return digest(self.reloads)

    @property
    def stamp(self) -> File:
        """The drop-in that notes, at every start and reload, under which invocation what was declared. It lands after all inputs."""
        as_root, notes = ("", f"%t/paddock/{self.note}") if self.user else ("+", "/run/paddock/%n")
        started = f"{as_root}/bin/ln -sfn ${{INVOCATION_ID}}:{self.started} {notes}.started"
        loaded = f"{as_root}/bin/ln -sfn ${{INVOCATION_ID}}:{self.loaded} {notes}.loaded"
        lines = ["[Service]", f"ExecStartPost={as_root}/bin/mkdir -p {notes.rpartition('/')[0]}"]
        lines += [f"ExecStartPost={started}", f"ExecStartPost={loaded}"]
        lines += [f"ExecReload={loaded}"] if self.reloads else []
        return File(f"{self.dropins}/50-paddock.conf", "\n".join([*lines, ""]))

    @property
    def dropins(self) -> str:
        return f"/etc/systemd/{'user' if self.user else 'system'}/{self.name}.d"


def digest(resources: Iterable[Resource]) -> str:
    """Sixteen hex digits over what the resources are to be."""
    lines = sorted(f"{each.id} {sorted(each.desired.items())}" for each in resources)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def expand(planned: Iterable[tuple[str, Resource]]) -> Iterator[tuple[str, Resource]]:
    """A host's resources, each with its role, and with those it stands for: a service's ports, and the stamp that vouches for it.

    What two roles declare alike belongs to the first. Raises ResourceError where they declare it differently, or where a service runs
    what nobody declares.
    """
    declared = tuple(planned)
    known = {each.id: each for _, each in declared}
    seen: dict[str, Resource] = {}
    for role, each in declared:
        for one in _implied(_resolved(each, known)):
            if one.id not in seen:
                yield role, one
            if seen.setdefault(one.id, one) != one:
                raise ResourceError(f"{one.id} is declared twice, and differently")


def _resolved(resource: Resource, known: Mapping[str, Resource]) -> Resource:
    if not isinstance(resource, Service) or not resource.runs:
        return resource
    if missing := [name for name in resource.runs if name not in known]:
        raise ResourceError(f"{resource.id} runs {', '.join(missing)}, which no role of this host declares")
    return replace(resource, restarts=(*resource.restarts, *(known[name] for name in resource.runs)), runs=())


def _implied(resource: Resource) -> Iterator[Resource]:
    if isinstance(resource, Service):
        yield from resource.ports
        if not resource.is_timer:
            yield Directory(resource.dropins)
            yield resource.stamp
    yield resource
