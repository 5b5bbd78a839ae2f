"""Directories, files and links."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from resources.base import Attributes, Landing, OnDisk, Origin, Owned, Resource, ResourceError, lines_of, of_kind
from resources.probe import ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.probe import Actual

KINDS = {"f": "file", "d": "directory", "l": "link"}
"""What find calls them."""


UNOPENED = "<sealed: no identity here opens it>"
"""In place of a secret that nobody here can open. A plan with it can be compared with a host, as far as that goes, and not carried out."""


@dataclass(frozen=True)
class Sealed:
    """In place of a secret's content, where only its digest may be known."""

    sha256: str


@dataclass(frozen=True)
class Directory(Owned):
    """A directory. Where `exclusive`, nothing lies in it but what the plan names.

    One of `data` is made and filled by a service, and outlives it: a plan has it only so that it is known whose it is. It leaves with all
    that is in it, where data is to leave, unless it was there before Paddock.
    """

    kind: ClassVar[str] = "directory"

    exclusive: bool = field(default=False, kw_only=True)
    data: bool = field(default=False, kw_only=True)

    @property
    def id(self) -> str:
        return f"directory:{self.path}"

    @property
    def desired(self) -> Attributes:
        if self.data:
            return {}
        return {"type": "directory", **self.ownership, **({"extra": ""} if self.exclusive else {})}

    def noted_as(self, actual: Actual) -> Origin | None:
        noted = super().noted_as(actual)
        return "data" if self.data and noted == "put" else noted

    def is_paddocks(self, actual: Actual) -> bool:
        return super().is_paddocks(actual) or (self.data and self.path.startswith(("/var/lib/paddock-", "/var/cache/paddock")))

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        """The paths of all that lies on a disk are looked at together."""
        exclusive = [each.path for each in of_kind(resources, cls) if each.exclusive]
        return {"paths": [each.path for each in of_kind(resources, OnDisk)], "exclusive": exclusive}

    def found(self, answer: ProbeAnswer) -> Attributes:
        stat = stat_of(self.path, answer)
        if not self.exclusive or not stat:
            return stat
        inside = {f"{self.path}/{name}" for name in answer.once(_inside).get(self.path, ())}
        return {**stat, "extra": "\n".join(sorted(inside - answer.once(_named)))}

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_directory", self.path, self.owner, self.group, f"{self.mode:o}")
        for extra in lines_of(landing.actual.resources.get(self.id, {}).get("extra", "")):
            steps.add("put_aside", extra)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_directory", origin, name)


@dataclass(frozen=True)
class File(Owned):
    """A file with all its content. A `secret` is never shown, and readable to root and at most one group. One that `goes_back` is put back
    with the version of the program that read it, although it says who is let in."""

    kind: ClassVar[str] = "file"
    reverts: ClassVar[bool] = True

    content: str | bytes | Sealed = field(repr=False)
    mode: int = field(default=0o644, kw_only=True)
    secret: bool = field(default=False, kw_only=True)
    goes_back: bool = field(default=False, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.secret and self.mode & ~0o640:
            raise ResourceError(f"{self.id}: a secret is never wider than 0640, this is {self.mode:04o}")

    @property
    def id(self) -> str:
        return f"file:{self.path}"

    @property
    def desired(self) -> Attributes:
        content = {} if self.is_unopened else {"sha256": self.sha256}
        return {"type": "file", **self.ownership, **content}

    @property
    def is_unopened(self) -> bool:
        """Whether its content hangs on a secret that nobody here can open, so that nobody can tell what a host is to have there."""
        return isinstance(self.content, str) and (self.content == UNOPENED or (self.secret and UNOPENED in self.content))

    @cached_property
    def data(self) -> bytes:
        """Raises ResourceError where the content is sealed."""
        if isinstance(self.content, Sealed):
            raise ResourceError(f"{self.id}: nobody here knows its content")
        return self.content.encode() if isinstance(self.content, str) else self.content

    @cached_property
    def sha256(self) -> str:
        return self.content.sha256 if isinstance(self.content, Sealed) else hashlib.sha256(self.data).hexdigest()

    @property
    def hidden(self) -> frozenset[str]:
        """The digest of a secret would tell it from others."""
        return frozenset({"sha256"}) if self.secret else frozenset()

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        """`known` are the lines of sha256sum for files that are as declared or secret: the text of the others is read too."""
        files = of_kind(resources, cls)
        known = [f"{each.sha256}  {each.path}" for each in files] + [f"  {each.path}" for each in files if each.secret]
        return {"files": [each.path for each in files], "known": known}

    def found(self, answer: ProbeAnswer) -> Attributes:
        return stat_of(self.path, answer)

    def is_paddocks(self, actual: Actual) -> bool:
        """To the letter what Paddock makes: the manifest was lost."""
        return super().is_paddocks(actual) or not actual.differing(self)

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_file", landing.origin(self), steps.pack(self.data, self.owner, self.group, self.mode), self.path)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_file", origin, name)


@dataclass(frozen=True)
class Link(OnDisk):
    """A symbolic link."""

    kind: ClassVar[str] = "link"
    reverts: ClassVar[bool] = True

    target: str

    @property
    def id(self) -> str:
        return f"link:{self.path}"

    @property
    def desired(self) -> Attributes:
        return {"type": "link", "target": self.target}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {}  # its path is among a directory's

    def found(self, answer: ProbeAnswer) -> Attributes:
        return stat_of(self.path, answer)

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_link", landing.origin(self), self.path, self.target)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_link", origin, name)


def stat_of(path: str, answer: ProbeAnswer) -> Attributes:
    """What lies at a path; nothing where nothing does."""
    if path not in answer.table("stat"):
        return {}
    letter, owner, group, mode, size, _, target = answer.table("stat")[path].split("\t", 6)
    kind = KINDS.get(letter, "neither file, directory nor link")
    if kind == "link":
        return {"type": kind, "target": target}
    if kind == "directory":
        return {"type": kind, "owner": owner, "group": group, "mode": mode}
    sha256 = answer.table("model").get(path) or answer.once(_sums).get(path, "")
    return {"type": kind, "owner": owner, "group": group, "mode": mode, "size": size, "sha256": sha256}


def changed_at(path: str, answer: ProbeAnswer) -> float | None:
    """When what lies at a path was changed, in seconds since 1970; None where nothing does."""
    stat = answer.table("stat").get(path)
    return float(stat.split("\t", 6)[5]) if stat else None


def _inside(answer: ProbeAnswer) -> Mapping[str, list[str]]:
    inside: dict[str, list[str]] = {}
    for directory, name in answer.pairs("inside"):
        inside.setdefault(directory, []).append(name)
    return inside


def _named(answer: ProbeAnswer) -> frozenset[str]:
    """The paths that are no surprise. What Paddock put there and no plan names any more is none: it is taken away by name."""
    left = {line.partition(":")[2] for line in answer.lines("manifest")}
    return frozenset({each.path for each in of_kind(answer.asked, OnDisk)} | left)


def _sums(answer: ProbeAnswer) -> Mapping[str, str]:
    return dict(_checksum(line) for line in answer.lines("sha256"))


def _checksum(line: str) -> tuple[str, str]:
    r"""`sha256sum` puts a backslash before the digest where it had to escape the name."""
    sha256, _, path = line.partition("  ")
    if sha256.startswith("\\"):
        return path.replace("\\\\", "\\"), sha256[1:]
    return path, sha256
