"""What every kind of resource is made of: who it is, how it is to be, and what each kind says of itself.

Nothing here knows pyinfra, an inventory or a host.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from resources.drift import Change
    from resources.probe import Actual, ProbeAnswer
    from resources.release import Release
    from resources.steps import Steps

Attributes = Mapping[str, str]

Origin = Literal["put", "kept", "data"]
"""In a host's manifest: `put` there by Paddock, `kept` from before Paddock, or `data` that outlives its place in the inventory."""

Action = Literal["put", "mend", "reload", "restart", "remove", "keep"]
"""What happens to a resource. `put`: it is made, a service is started. `mend`: it is made as declared where it is. `keep`: it stays as it
is, although something around it changes."""

Phase = Literal["prepare", "files", "services", "never"]
"""When a kind is put in place: before all roles, with its role's files, with its role's services, or never: another kind brings it."""

PADDOCKS = ("/opt/paddock/", "/etc/paddock/", "/var/lib/paddock/")
"""The directories that are Paddock's alone."""

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ResourceError(ValueError):
    """A resource that no host could carry: a bug of the plan that made it."""


class Landing(Protocol):
    """What a resource may ask while its steps are made: what the host is, and what travels with them."""

    @property
    def actual(self) -> Actual: ...
    @property
    def payload(self) -> Mapping[str, Path]:
        """Resource id → its file here, of what is no text; of an environment a directory with its wheels, SHA256/NAME each."""

    @property
    def trials(self) -> Mapping[str, bytes]:
        """Release id → the archive that its gate tries it with."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The whole plan of the host."""

    @property
    def part(self) -> str:
        """The role whose program gets another version, where that is all that is done."""

    def origin(self, resource: Resource) -> Origin: ...
    def manifest_of(self, release: Release) -> Callable[[], bytes]:
        """The sha256 of a release's list of files, as somebody vouches for it, once the release is there."""

    def curl(self, resource: Resource) -> Sequence[str]:
        """The configurations that the host's curl asks for a file with, one after another."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing on a host. `id` says which (`file:/etc/caddy/Caddyfile`), `desired` how it is to be, attribute by attribute."""

    kind: ClassVar[str] = ""
    """What its ids begin with."""
    phase: ClassVar[Phase] = "files"
    reverts: ClassVar[bool] = False
    """Whether something is undone, once no plan names it, although it was there before Paddock: a backup is put back, say."""
    listed: ClassVar[bool] = False
    """Whether `status` lists it also where it is as declared."""
    old: ClassVar[frozenset[str]] = frozenset()
    """Attributes that say what is left from before: `at_end` puts them right, once nothing can be taken back any more."""

    @property
    def id(self) -> str:
        raise NotImplementedError

    @property
    def desired(self) -> Attributes:
        raise NotImplementedError

    @property
    def identity(self) -> Attributes:
        """What of `desired` makes it another resource for those who read it, and is known in every plan."""
        return self.desired

    # What the probe asks, and how its answer reads

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        """The lists that the kind's `probe_…` works on: name → values, out of all resources of the host. Kinds may add to one list."""
        raise NotImplementedError

    def found(self, answer: ProbeAnswer) -> Attributes:
        """The attributes that the probe found; none where the resource is not there."""
        raise NotImplementedError

    # What is to happen

    @property
    def noted(self) -> bool:
        """Whether the host's manifest notes it, so that it leaves once no plan names it."""
        return True

    def noted_as(self, actual: Actual) -> Origin | None:
        """How the manifest is to have it; None where it is not to have it."""
        if noted := actual.manifest.get(self.id):
            return noted
        return "kept" if self.id in actual.resources and not self.is_paddocks(actual) else "put"

    def is_paddocks(self, actual: Actual) -> bool:
        """Whether what is there cannot have been there before Paddock, although no manifest has it."""
        return False

    def action(self, actual: Actual, wrong: frozenset[str]) -> Action | None:
        """What is to happen, None for nothing. `wrong` are the ids of its role's resources that are not as declared."""
        if self.id not in wrong:
            return None
        return "mend" if self.id in actual.resources else "put"

    def lands_anew(self, actual: Actual) -> bool:
        """Whether it is a program that is replaced under those who run it, although it is to be the same one."""
        return False

    # How it lands, and how it leaves

    @classmethod
    def before_landing(cls, steps: Steps, wrong: frozenset[str], landing: Landing) -> None:
        """What there is to do before a role's files land."""

    @classmethod
    def land_all(cls, steps: Steps, changes: Sequence[Change], landing: Landing) -> None:
        """The steps for a role's changes of this kind."""
        for change in changes:
            if change.resource is not None and change.action != "keep":
                change.resource.land(steps, landing)

    def land(self, steps: Steps, landing: Landing) -> None:
        raise NotImplementedError

    @classmethod
    def before_forgetting(cls, steps: Steps, changes: Sequence[Change]) -> None:
        """What there is still to do for what leaves, of all roles, before the manifest forgets it: a run that dies before that does it
        again."""

    @classmethod
    def at_end(cls, steps: Steps, changes: Sequence[Change]) -> None:
        """What there is to do once all is as declared, for the changes of all roles."""

    @classmethod
    def before_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        """What there is to do before anything of what leaves last (id → origin) leaves."""

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        """The steps that take away what is called so: the id without its kind."""
        raise NotImplementedError

    @classmethod
    def after_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        """What there is to do once all that leaves (id → origin) has left."""

    # How it is shown

    def state(self, found: Attributes) -> str:
        """What it is, in a word, for `status`."""
        return "there" if found else "missing"

    def advice(self, differing: Mapping[str, object]) -> str:
        """What a person can do about attributes that no run puts right; empty where `up` does it."""
        return ""

    @property
    def hidden(self) -> frozenset[str]:
        """The attributes that are never shown."""
        return frozenset()

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        """For `verify`, which asks in its own way: what is looked at, a shell command, and what it is to print."""
        return ()

    # What comes along

    def resolved(self, known: Mapping[str, Resource]) -> Resource:
        """With what it names by id in place of the ids. Raises ResourceError for one that nobody declares."""
        return self

    def implied(self) -> Iterator[Resource]:
        """What else is so where this is: it comes before it."""
        yield from ()


R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class OnDisk(Resource):
    """What has a path."""

    path: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or CONTROL_CHARACTER.search(self.path) or "/../" in self.path:
            raise ResourceError(f"{self.path!r} is no absolute path of printable characters")

    def is_paddocks(self, actual: Actual) -> bool:
        return f"{self.path}/".startswith(PADDOCKS)


@dataclass(frozen=True)
class Owned(OnDisk):
    owner: str = field(default="root", kw_only=True)
    group: str = field(default="root", kw_only=True)
    mode: int = field(default=0o755, kw_only=True)

    @property
    def ownership(self) -> Attributes:
        return {"owner": self.owner, "group": self.group, "mode": f"{self.mode:o}"}


def lines_of(text: str) -> list[str]:
    """Its lines, which end at line feeds alone. str.splitlines() ends them at U+2028, U+0085 and form feeds too: what somebody else has
    written within one line would become another.
    """
    return text.removesuffix("\n").split("\n") if text else []


def of_kind(resources: Iterable[Resource], kind: type[R]) -> list[R]:
    """The resources of one kind, or of the kinds that are made of it."""
    return [each for each in resources if isinstance(each, kind)]


def digest(resources: Iterable[Resource]) -> str:
    """Sixteen hex digits over what the resources are to be."""
    lines = sorted(f"{each.id} {sorted(each.identity.items())}" for each in resources)
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
        if CONTROL_CHARACTER.search(each.id):
            raise ResourceError(f"{each.id!r} has a line break or another control character in it, which a manifest cannot hold")
        resolved = each.resolved(known)
        for one in (*resolved.implied(), resolved):
            if (id := one.id) not in seen:
                seen[id] = one
                yield role, one
            elif seen[id] != one:
                raise ResourceError(f"{one.id} is declared twice, and differently")
