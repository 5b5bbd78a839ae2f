"""What there is to do on one host: its plan, what it is now, and the difference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from control.artifacts import Artifacts
from facts.drift import Drift
from facts.state import Actual
from roles.host_plan import HostPlan
from roles.resources import ModelFile, Release, Resource

TINY = "a tiny model"
"""In a payload: what a release is tried with before it serves."""


@dataclass(frozen=True)
class Wanted:
    """A release that nobody has: its source here, and where it is to lie here once it is built."""

    release: Release
    source: Path
    artifacts: Artifacts
    distribution: str
    """That it is built for."""


NO_TOKEN = "is the repository right? For one that is not open to all, `paddock secrets set hf-token` keeps the token of who was let in"
KNOWN_TOKEN = "is the repository right, and was who the secret hf-token belongs to let in?"


@dataclass(frozen=True)
class Asked:
    """A file over HTTP, and how it is asked for. `token` goes to that very host and to none that it passes on to."""

    url: str
    token: str = field(default="", repr=False)
    hint: str = ""
    """What to do where it says that nobody, or not everybody, may have it."""
    near: bool = False
    """Another host of the fleet, to which no proxy leads."""


def asked_of(model: ModelFile, token: str = "") -> tuple[Asked, ...]:
    """How a model's file is asked for where it comes from; nothing where that is no address. `token` is for Hugging Face.

    HF_ENDPOINT names a mirror of it.
    """
    how, _, where = model.origin.partition(" ")
    if how == "hf":
        return (Asked(resolve_url(*where.split(" ", 2)), token, KNOWN_TOKEN if token else NO_TOKEN),)
    return (Asked(where, hint="is the address right, and does it want a login?"),) if how == "url" else ()


def hugging_face() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def resolve_url(repository: str, revision: str, name: str) -> str:
    """Where a repository of Hugging Face has a file: `https://huggingface.co/ORG/REPOSITORY/resolve/REVISION/Q8_0/model.gguf`"""
    return f"{hugging_face()}/{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"


@dataclass(frozen=True)
class Work:
    """`needs` is role → the hosts that must be ready before; `payload` has the local file of each resource that is no text, by its id.

    `builds` is what the host is to compile, for itself or for others. `asks` has, by the id of a model's file, where it may come from.
    """

    plan: HostPlan
    actual: Actual
    drift: Drift
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    payload: Mapping[str, Path] = field(default_factory=dict)
    builds: tuple[Wanted, ...] = ()
    asks: Mapping[str, tuple[Asked, ...]] = field(default_factory=dict)

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(each for part in self.plan.values() for each in part)

    def wrong(self, *kinds: type[Resource]) -> list[Resource]:
        """The resources of these kinds that are not as declared."""
        return [each for part in self.plan for each in self.drift.of(part) if isinstance(each, kinds)]

    @property
    def missing(self) -> tuple[Release, ...]:
        """The releases that do not lie on the host yet."""
        wrong = [each for each in self.wrong(Release) if isinstance(each, Release)]
        return tuple(each for each in wrong if self.actual.resources.get(each.id, {}).get("fingerprint") != each.fingerprint)
