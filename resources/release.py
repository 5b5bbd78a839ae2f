"""Builds of llama.cpp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from resources.base import Attributes, Landing, OnDisk, Origin, Resource, of_kind
from resources.disk import stat_of
from resources.history import history_of, releases_had
from resources.probe import Actual, ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.drift import Change

HERE = Path(__file__).parent


def on_trial(script: Literal["gate.sh", "measure.sh"]) -> bytes:
    """The program that tries releases on their host."""
    return b"".join((HERE / name).read_bytes() for name in ("trial.sh", script))


@dataclass(frozen=True)
class Releases(OnDisk):
    """The directory in which releases lie: `most` of them, and the others in no more than `disk_mib`, 0 being any number of MiB.

    The release that is to serve, the one that serves, the one before, and what a process runs are no others: they stay. Who the host served
    with longest ago goes first.
    """

    kind: ClassVar[str] = "releases"
    old: ClassVar[frozenset[str]] = frozenset({"spare"})

    most: int
    disk_mib: int = 0

    @property
    def id(self) -> str:
        return f"releases:{self.path}"

    @property
    def desired(self) -> Attributes:
        return {"type": "directory", "spare": ""}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        places = [each.path for each in of_kind(resources, cls)]
        return {"release_places": places, "paths": places}

    def found(self, answer: ProbeAnswer) -> Attributes:
        stat = stat_of(self.path, answer)
        return {"type": stat["type"], "spare": " ".join(self._spare(answer))} if stat else {}

    def _spare(self, answer: ProbeAnswer) -> list[str]:
        """The names of those that are to go, in order."""
        lying = {path.rpartition("/")[2]: rest.split("\t") for path, rest in answer.pairs("lying") if path.startswith(f"{self.path}/")}
        wanted = [each for each in of_kind(answer.asked, Release) if each.path.rpartition("/")[0] == self.path]
        serving = {stat_of(each.current, answer).get("target", "").rpartition("/")[2] for each in wanted} - {""}
        had = list(releases_had(history_of(answer.lines("history"), ()).lines))
        stay = {each.name for each in wanted} | serving
        if len(stay) == len(wanted):  # else what serves now will be the one before
            stay.update([each for each in had if each not in stay][:1])
        present, is_known = stay | lying.keys(), len(stay) > len(wanted)
        stay |= {name for name, (_, _, used) in lying.items() if used == "used"}
        others = sorted(lying.keys() - stay, key=lambda name: (_rank(name, had), -_number(lying[name][1]), name))
        room, left = self.most - len(stay & present), self.disk_mib << 10
        for at, name in enumerate(others):
            left -= _number(lying[name][0])
            if at >= room or (self.disk_mib and is_known and left < 0):
                return others[at:]
        return []

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_releases", self.path)

    @classmethod
    def at_end(cls, steps: Steps, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change.resource, cls) and (spare := change.attributes.get("spare")):
                steps.add("releases_leave", change.resource.path, *spare[0].split())

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_releases", name)


@dataclass(frozen=True)
class Release(OnDisk):
    """One built llama.cpp in its own directory, `path`, and the link `current` beside `releases/` that says which one serves.

    `source` names what it is built from, `options` are CMake's, all stated, `fingerprint` is the hash of everything that went into it,
    `key` of all but the machine it is built on, `profile` says in words what it is for. `builder` is the host that compiles it, none
    where it has to be in the fleet's artifacts; `made` says whether somebody has compiled it already: its archive is here (`archived`), or
    only what it is (`recorded`); `triplet` is the cross compiler's, if it takes one; with a
    `suite` it is compiled in a tree of that release of Debian, which has the packages `inside`. `jobs` are compilers at a time, which
    change nothing in the result; 0 is as many as the builder's cores and memory carry. `packages` are what it is compiled with; one with
    `downloads` (`libggml0=0.27.0-1`) is not compiled, but unpacked of these packages. With `ui`,
    llama-server has its web page in it. `manifest` is the sha256 of its list of files, as far as somebody has compiled it already, and
    `imported` who vouches for it where it was not this fleet.

    Where it serves, `environment` holds, `devices` are what its `--list-devices` must then list, and `cpu_features` the flags of
    /proc/cpuinfo that its code uses. One that comes `ahead` is laid beside the one that serves, and tried: `current` stays.
    """

    kind: ClassVar[str] = "release"
    listed: ClassVar[bool] = True

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
    made: Literal["", "recorded", "archived"] = ""
    triplet: str = ""
    suite: str = ""
    inside: tuple[str, ...] = ()
    downloads: tuple[str, ...] = ()
    ui: bool = False
    manifest: str = ""
    imported: str = ""
    ahead: bool = False

    @property
    def id(self) -> str:
        return f"release:{self.current}"

    @property
    def name(self) -> str:
        """`0.3.36-1f0c8a2b3c4d`"""
        return self.path.rpartition("/")[2]

    @property
    def desired(self) -> Attributes:
        return {**self.identity, **({"manifest": self.manifest} if self.manifest else {})}

    @property
    def identity(self) -> Attributes:
        """Without the list of files, which nobody knows before it is built."""
        return {"fingerprint": self.fingerprint, "current": self.path}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        releases = of_kind(resources, cls)
        return {"releases": [each.path for each in releases], "paths": [each.current for each in releases]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        fingerprint, _, manifest = answer.table("release").get(self.path, "").partition("\t")
        found = {"fingerprint": fingerprint, "manifest": manifest, "current": stat_of(self.current, answer).get("target", "")}
        return {name: value for name, value in found.items() if value}

    def lies_on(self, actual: Attributes) -> bool:
        """Whether it lies on a host already, by its attributes there: only `current` has to move."""
        return actual.get("fingerprint") == self.fingerprint and self.manifest in ("", actual.get("manifest"))

    def lands_anew(self, actual: Actual) -> bool:
        return "fingerprint" in actual.differing(self)

    def land(self, steps: Steps, landing: Landing) -> None:
        there = self.lies_on(landing.actual.resources.get(self.id, {}))
        packed, manifest = ("", "") if there else (steps.pack_file(landing.payload[self.id]), steps.pack_later(landing.manifest_of(self)))
        trial = landing.trials.get(self.id)
        program, tried = (steps.pack(on_trial("gate.sh")), steps.pack(trial)) if trial is not None else ("", "")
        steps.add("bring_release", self.current, self.path, self.fingerprint, packed, manifest, program, tried)
        if not self.ahead:
            steps.add("put_release", self.current, self.path)

    def try_flags(self, steps: Steps, landing: Landing) -> None:
        """It serves already: whether it takes what its services are to read."""
        call = ("try_flags", self.current, self.path)
        if not any(each.startswith(f"{call[0]} ") for each in steps.calls):
            steps.add(*call, steps.pack(on_trial("gate.sh")), steps.pack(landing.trials[self.id]))

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_release", name)

    def state(self, found: Attributes) -> str:
        return found.get("current", "").rpartition("/")[2] or super().state(found)


def _rank(name: str, had: Sequence[str]) -> int:
    return had.index(name) if name in had else len(had)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0
