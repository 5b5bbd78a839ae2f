"""The probe: the actual state of everything a plan names, in one round trip."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from shlex import quote

from pyinfra.api import FactBase

from facts.hardware import IDENTITY_SH
from roles.resources import Directory, File, Line, Link, ModelFile, OnDisk, Package, Port, Release, Resource, Service, User

Attributes = Mapping[str, str]


@dataclass(frozen=True)
class Actual:
    """What a host is. `resources` has the attributes of each resource that is there at all, `texts` the files that differ and may be shown.

    `manifest` says of each resource that Paddock declared there before whether it `put` it or it was `kept` from before; `clock` is the
    host's time in seconds since 1970; `identity` changes with the machine; with `rest`, files lie about that a run did not get to use
    before it died, or dpkg has not ended; `data` has the bytes of each model file that the manifest names, and of what lies beside it of a
    download.
    """

    resources: Mapping[str, Attributes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, str] = field(default_factory=dict)
    clock: int = 0
    identity: str = ""
    rest: bool = False
    data: Mapping[str, int] = field(default_factory=dict)

    def differing(self, resource: Resource) -> dict[str, tuple[str, str]]:
        """Attribute → (actual, desired), of those that are not as declared."""
        actual = self.resources.get(resource.id, {})
        return {name: (actual.get(name, ""), value) for name, value in resource.desired.items() if actual.get(name) != value}


@cache
def _script() -> str:
    return (Path(__file__).parent / "probe.sh").read_text(encoding="utf-8")


def probe_script(resources: Sequence[Resource]) -> str:
    """The POSIX shell script that reads the state of `resources`; for standard input, since it may be longer than an argument."""
    on_disk = [each for each in resources if isinstance(each, OnDisk)]
    files = [each for each in resources if isinstance(each, File)]
    releases = [each for each in resources if isinstance(each, Release)]
    shown = [f"{each.sha256}  {each.path}" for each in files] + [f"  {each.path}" for each in files if each.secret]
    ports = " or ".join(dict.fromkeys(f"sport = :{each.number}" for each in resources if isinstance(each, Port)))
    lists = {
        "paths": [each.path for each in on_disk] + [each.current for each in releases] + _directories(resources),
        "files": [each.path for each in files],
        "exclusive": [each.path for each in resources if isinstance(each, Directory) and each.exclusive],
        "lines": [f"{each.path}\t{each.text}" for each in resources if isinstance(each, Line)],
        "models": [each.path for each in resources if isinstance(each, ModelFile)],
        "releases": [each.path for each in releases],
        "packages": [each.name for each in resources if isinstance(each, Package)],
        "users": [each.name for each in resources if isinstance(each, User)],
        "services": [each.unit for each in resources if isinstance(each, Service)],
        "ports": [f"( {ports} )"] if ports else [],
    }
    functions = [
        f"{name}() {{ printf '%s\\n' {' '.join(map(quote, values))}; }}" if values else f"{name}() {{ :; }}"
        for name, values in lists.items()
    ]
    differing = f"differing() {{ grep -vF {' '.join('-e ' + quote(line) for line in shown)}; }}" if shown else "differing() { :; }"
    return "\n".join([*functions, differing, f"identity() {{ {IDENTITY_SH.strip()}\n}}", _script()])


def _directories(resources: Iterable[Resource]) -> list[str]:
    """Those of what services read: when a file that is missing was removed, only its directory can say."""
    read = (each for service in resources if isinstance(service, Service) for each in (*service.restarts, *service.reloads))
    return list(dict.fromkeys(each.path.rpartition("/")[0] for each in read if isinstance(each, File | ModelFile)))


class State(FactBase[Actual]):
    """An `Actual`. To be asked with `_stdin=probe_script(resources)`."""

    @staticmethod
    def default() -> Actual:
        return Actual()

    def command(self, resources: Sequence[Resource]) -> str:
        self.asked = tuple(resources)
        return "sh -s"

    def process(self, output: list[str]) -> Actual:
        sections = _sections(output)
        return Actual(
            resources=_attributes(self.asked, sections),
            texts={path: _decoded(text) for path, text in _pairs(sections, "text")},
            manifest={name: origin for origin, _, name in (line.partition(" ") for line in sections.get("manifest", ())) if name},
            clock=int(sections.get("clock", ["0"])[0]),
            identity=" ".join(sections.get("identity", ())),
            rest=bool(sections.get("rest")),
            data={path: int(size) for path, size in _pairs(sections, "data")},
        )


def _sections(output: Iterable[str]) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output:
        if line.startswith("#"):
            lines = sections.setdefault(line[1:], [])
        else:
            lines.append(line)
    return sections


def _pairs(sections: Mapping[str, list[str]], name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, found, value in (line.partition("\t") for line in sections.get(name, ())) if found]


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except UnicodeDecodeError:
        return "(binary)\n"


def _attributes(resources: Iterable[Resource], sections: Mapping[str, list[str]]) -> dict[str, Attributes]:
    resources = tuple(resources)
    found = _Found(sections, resources)
    attributes = {each.id: found.attributes(each) for each in resources}
    return {name: value for name, value in attributes.items() if value}


NOT_READ = ("owner", "group", "mode", "fingerprint")
"""Attributes of what a service reads that change nothing of what it has read."""

KINDS = {"f": "file", "d": "directory", "l": "link"}
"""What find calls them."""


class _Found:
    """What the probe printed, looked up by resource."""

    def __init__(self, sections: Mapping[str, list[str]], asked: Sequence[Resource]) -> None:
        services = [each.unit for each in sorted((each for each in asked if isinstance(each, Service)), key=lambda each: bool(each.user))]
        # what Paddock put there and no plan names any more is no surprise: it is taken away by name
        left = {line.partition(":")[2] for line in sections.get("manifest", ())}
        self.paths = {each.path for each in asked if isinstance(each, OnDisk)} | left
        self.stats = {path: values.split("\t", 6) for path, values in _pairs(sections, "stat")}
        self.sums = dict(_checksum(line) for line in sections.get("sha256", ()))
        self.inside: dict[str, list[str]] = {}
        for directory, name in _pairs(sections, "inside"):
            self.inside.setdefault(directory, []).append(name)
        self.lines = set(sections.get("line", ()))
        self.models = dict(_pairs(sections, "model"))
        self.releases = dict(_pairs(sections, "release"))
        self.packages = {name: values.split("\t") for name, values in _pairs(sections, "package")}
        self.users = {line.split(":")[0]: line.split(":") for line in sections.get("passwd", ())}
        self.groups = dict(_pairs(sections, "groups"))
        self.services = dict(zip(services, _blocks(sections.get("service", ())), strict=False))
        self.stamps = dict(_pairs(sections, "stamp"))
        self.programs = dict(_pairs(sections, "program"))
        self.units = {pid: group.rstrip("/").rpartition("/")[2] for pid, group in _pairs(sections, "cgroup")}
        self.sockets = [line.split() for line in sections.get("socket", ()) if line]

    def attributes(self, resource: Resource) -> Attributes:
        match resource:
            case Package():
                _, status, version = ["", *self.packages.get(resource.name, ["", ""])]
                return {"state": "installed", "version": version} if status.strip() == "ii" else {}
            case User():
                return self._user(resource)
            case Directory() if resource.exclusive:
                stat = self._stat(resource.path)
                inside = {f"{resource.path}/{name}" for name in self.inside.get(resource.path, ())}
                return {**stat, "extra": "\n".join(sorted(inside - self.paths))} if stat else {}
            case Directory() | File() | ModelFile():
                return self._stat(resource.path)
            case Line():
                return {"line": resource.text} if resource.path in self.lines else {}
            case Link():
                return self._stat(resource.path)
            case Release():
                built = {"fingerprint": self.releases[resource.path]} if resource.path in self.releases else {}
                target = self._stat(resource.current).get("target")
                return {**built, **({"current": target} if target else {})}
            case Port():
                return self._port(resource)
            case Service():
                return self._service(resource)
        raise TypeError(resource)

    def _stat(self, path: str) -> Attributes:
        if path not in self.stats:
            return {}
        letter, owner, group, mode, size, _, target = self.stats[path]
        kind = KINDS.get(letter, "neither file, directory nor link")
        if kind == "link":
            return {"type": kind, "target": target}
        if kind == "directory":
            return {"type": kind, "owner": owner, "group": group, "mode": mode}
        sha256 = self.models.get(path) or self.sums.get(path, "")
        return {
            "type": kind,
            "owner": owner,
            "group": group,
            "mode": mode,
            "size": size,
            "sha256": sha256,
        }

    def _user(self, user: User) -> Attributes:
        if user.name not in self.users:
            return {}
        *_, home, shell = self.users[user.name]
        return {"home": home, "shell": shell, "groups": " ".join(sorted(set(self.groups.get(user.name, "").split())))}

    def _port(self, port: Port) -> Attributes:
        """One line of ss: protocol, state, two queues, local address and port, peer, `users:(("name",pid=7,fd=3))`."""
        mine = [each for each in self.sockets if each[0] == port.protocol and each[4].rpartition(":")[2] == str(port.number)]
        if not mine:
            return {}
        addresses = sorted({each[4].rpartition(":")[0].strip("[]").partition("%")[0] for each in mine})
        pids = {part.partition(",")[0] for each in mine for part in " ".join(each[6:]).split("pid=")[1:]}
        units = sorted({self.units.get(pid, "?") for pid in pids})
        return {"addresses": " ".join(addresses), "unit": " ".join(units)}

    def _service(self, service: Service) -> Attributes:
        shown = self.services.get(service.unit)
        if not shown or not shown.get("Id") or (not shown["UnitFileState"] and shown["ActiveState"] == "inactive"):
            return {}  # an account whose manager does not run has no services
        return {
            "active": shown["ActiveState"],
            "enabled": shown["UnitFileState"],
            "daemon-reload": shown["NeedDaemonReload"],
            "program": self._program(shown.get("MainPID", "")),  # a timer has none
            "started": self._stamp(service, "started", shown, "ActiveEnter" if service.reloads else "StateChange"),
            "loaded": self._stamp(service, "loaded", shown, "StateChange"),
        }

    def _program(self, pid: str) -> str:
        """A process whose file was replaced since it was started still runs the old one."""
        return "replaced" if self.programs.get(f"/proc/{pid}/exe", "").endswith(" (deleted)") else "current"

    def _stamp(self, service: Service, name: str, shown: Mapping[str, str], when: str) -> str:
        """What was noted under the running invocation. It says nothing if an earlier one noted it; nor if it says what is declared, but
        something that was read then had been changed by hand: at the start, or also when somebody reloaded it, which changes the unit's
        state for a moment.
        """
        noted, _, digest = self.stamps.get(f"{service.note}.{name}", "").partition(":")
        if not noted or noted != shown["InvocationID"]:
            return ""
        read = service.restarts if name == "started" else service.reloads
        if digest == service.desired.get(name) and any(self._otherwise_before(shown[f"{when}Timestamp"], each) for each in read):
            return ""
        return digest

    def _otherwise_before(self, time: str, resource: Resource) -> bool:
        """Whether what is on disk is not as declared, and has been like that since before `time`, as systemd prints it."""
        if not isinstance(resource, OnDisk):
            return False
        actual = self.attributes(resource)
        if all(actual.get(name) == value for name, value in resource.desired.items() if name not in NOT_READ):
            return False
        path = resource.current if isinstance(resource, Release) else resource.path
        stat = self.stats.get(path) or self.stats.get(path.rpartition("/")[0])
        _, date, clock, _ = time.split()  # Sat 2026-11-21 20:54:04.123456 UTC
        return stat is not None and float(stat[5]) < datetime.fromisoformat(f"{date}T{clock}+00:00").timestamp()


def _checksum(line: str) -> tuple[str, str]:
    r"""`sha256sum` puts a backslash before the digest where it had to escape the name."""
    sha256, _, path = line.partition("  ")
    if sha256.startswith("\\"):
        return path.replace("\\\\", "\\"), sha256[1:]
    return path, sha256


def _blocks(lines: Iterable[str]) -> list[dict[str, str]]:
    """`systemctl show` of several units: a block a unit in the order asked for, an empty line between. (An `Id` may be an alias's.)"""
    blocks: list[dict[str, str]] = [{}]
    for line in lines:
        if line:
            name, _, value = line.partition("=")
            blocks[-1][name] = value
        else:
            blocks.append({})
    return [block for block in blocks if block]
