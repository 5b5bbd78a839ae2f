"""The probe: a shell script that reads the actual state of everything a plan names, and how its answer reads."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

from resources.guard import TakenBack, Waiting, taken_back_of, waiting_of
from resources.history import NOTHING, HostHistory, history_of
from resources.lease import Lease, lease_of
from resources.owner import Owner, owner_of

if TYPE_CHECKING:
    from resources.base import Attributes, Origin, Resource

T = TypeVar("T")

VISIBLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}
"""Control characters but the tab. A host may say anything, and a terminal would obey it."""


@dataclass(frozen=True)
class Actual:
    """What a host is. `resources` has the attributes of each resource that is there at all, `texts` the files that differ and may be shown.

    `manifest` says of each resource that Paddock declared there before whether it `put` it or it was `kept` from before; `owner` is whose
    the host is by its manifest, None where that does not say; `lease` is of the run that is changing the host, or did so last; `clock` is
    the host's time in seconds since 1970; `identity` changes with the machine; with `rest`, files lie about that a run did not get to use
    before it died, or dpkg has not ended; `data` has the bytes of each model file that the manifest names, and of what lies beside it of a
    download, `names` which file each of these paths is a name of, and how many names that has; `held` is path → sha256 of the model files
    that are whole, as the host noted it; `waiting` is a switch that is to be confirmed, `taken_back` the last one that was not, until
    somebody has been told; `history` says which configurations the host has had.
    """

    resources: Mapping[str, Attributes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, Origin] = field(default_factory=dict)
    owner: Owner | None = None
    lease: Lease | None = None
    clock: int = 0
    identity: str = ""
    rest: bool = False
    data: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    waiting: Waiting | None = None
    taken_back: TakenBack | None = None
    history: HostHistory = NOTHING

    def differing(self, resource: Resource) -> dict[str, tuple[str, str]]:
        """Attribute → (actual, desired), of those that are not as declared."""
        actual = self.resources.get(resource.id, {})
        return {name: (actual.get(name, ""), value) for name, value in resource.desired.items() if actual.get(name) != value}


def probe_script(resources: Sequence[Resource], identity: str, *, deep: bool = False) -> str:
    """The POSIX shell script that reads the state of `resources`; for standard input, since it may be longer than an argument.

    `identity` is shell code that prints what changes with the machine. With `deep` large files are read whole, in place of what was noted.
    """
    from resources import MODULES, kinds, scripts

    lists: dict[str, dict[str, None]] = {}
    for kind in kinds():
        for name, values in kind.asks(resources).items():
            lists.setdefault(name, {}).update(dict.fromkeys(values))
    functions = [f"{name}() {{ {_printing(values)}; }}" for name, values in lists.items()]
    probes = (f"probe_{module}" for module in MODULES)
    functions.append(f"deep() {{ {str(deep).lower()}; }}")
    return "\n".join([*functions, f"identity() {{ {identity.strip()}\n}}", scripts(), "probe_begin", *probes, "section end", "exit 0", ""])


def _printing(values: Iterable[str]) -> str:
    """A value a line."""
    quoted = " ".join(map(quote, values))
    return f"printf '%s\\n' {quoted}" if quoted else ":"


class ProbeAnswer:
    """What the probe printed: sections, each with its lines, and of a table a value behind a tab. `asked` are the resources it is about.

    The first line is the mark that each section begins with.
    """

    def __init__(self, output: Iterable[str], asked: Sequence[Resource]) -> None:
        self.asked = tuple(asked)
        self._sections: dict[str, list[str]] = {}
        self._once: dict[object, Any] = {}
        lines: list[str] = []
        rest = iter(output)
        mark = f"{next(rest, '')} "
        for line in rest:
            if line.startswith(mark):
                lines = self._sections.setdefault(line[len(mark) :], [])
            else:
                lines.append(line.translate(VISIBLE))
        self.is_whole = "end" in self._sections

    def lines(self, section: str) -> Sequence[str]:
        return self._sections.get(section, ())

    def pairs(self, section: str) -> list[tuple[str, str]]:
        return [(key, value) for key, tab, value in (line.partition("\t") for line in self.lines(section)) if tab]

    def table(self, section: str) -> Mapping[str, str]:
        if section not in self._once:
            self._once[section] = dict(self.pairs(section))
        found: Mapping[str, str] = self._once[section]
        return found

    def once(self, read: Callable[[ProbeAnswer], T]) -> T:
        """What `read` makes of this answer, made at the first call."""
        if read not in self._once:
            self._once[read] = read(self)
        found: T = self._once[read]
        return found


def actual_of(output: Iterable[str], asked: Sequence[Resource]) -> Actual:
    """The answer to `probe_script(asked)`.

    Raises ValueError or LookupError where it makes no sense, or is cut short: what is missing in it would be taken for missing on the host.
    """
    answer = ProbeAnswer(output, asked)
    if not answer.is_whole:
        raise ValueError("it was cut short")
    found = {each.id: each.found(answer) for each in answer.asked}
    stats = {path: stat.split("\t") for path, stat in answer.pairs("data")}
    return Actual(
        resources={name: attributes for name, attributes in found.items() if attributes},
        texts={path: _decoded(text) for path, text in answer.pairs("text")},
        manifest={name: _origin(origin) for origin, _, name in (line.partition(" ") for line in answer.lines("manifest")) if name},
        owner=owner_of(answer.lines("owner")),
        lease=lease_of(next(iter(answer.lines("lease")), "")),
        clock=int(next(iter(answer.lines("clock")), "0")),
        identity=" ".join(answer.lines("identity")),
        rest=bool(answer.lines("rest")),
        data={path: int(size) for path, (size, _, _) in stats.items()},
        names={path: (file, int(count)) for path, (_, file, count) in stats.items()},
        held=answer.table("held"),
        waiting=waiting_of(answer.table("guard")),
        taken_back=taken_back_of(answer.table("taken_back")),
        history=history_of(answer.lines("history"), answer.lines("entries")),
    )


def _origin(text: str) -> Origin:
    return "kept" if text == "kept" else "data" if text == "data" else "put"


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode().translate({**VISIBLE, ord("\n"): "\n"})
    except UnicodeDecodeError:
        return "(binary)\n"
