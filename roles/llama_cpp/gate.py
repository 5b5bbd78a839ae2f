"""What the gate tries a release with, before it serves: the processor, the devices, and whatever is rendered for it to read."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from resources import File, Release, Resource, Service
from roles.devices import OTHER_GGML

HOME = "/run/paddock-gate"
SOCKET = "/run/paddock-gate-server/gate.sock"
"""Where the trial is unpacked, and where a llama-server under trial listens (resources/gate.sh)."""

ANSWER = "from a tiny model"
"""What Paddock's tiny model says, whatever it is asked: a device that computes wrongly says something else."""

# What a command line may say that a trial must not do: to take the service's port, to write its log, to want a directory that lands with
# the service, or to read a file that lands later. Nothing is left out, for all is tried.
INSTEAD = {
    "--host": SOCKET,
    "--log-file": "/dev/null",
    "--slot-save-path": "/tmp",
    "--chat-template-file": "/dev/null",
    "--grammar-file": "/dev/null",
    "--json-schema-file": f"{HOME}/schema",
}
PRESETS = "--models-preset"
NO_AUTOLOAD = "--no-models-autoload"

ELSEWHERE = frozenset(("--rpc",))
"""What has other hosts compute, and is left out with its value: one that computes for a server that runs answers nobody else."""

OF_THE_UNIT = frozenset(
    (
        *("User", "Group", "SupplementaryGroups", "DynamicUser", "Environment", "UMask"),
        *("CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges", "LimitNOFILE", "LimitMEMLOCK", "LimitNICE", "LimitRTPRIO"),
        *("ProtectSystem", "ProtectHome", "BindReadOnlyPaths", "PrivateTmp", "PrivateDevices", "DevicePolicy", "DeviceAllow"),
        *("PrivateUsers", "ProtectProc"),
        *("ProcSubset", "ProtectClock", "ProtectHostname", "ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
        *("LockPersonality", "MemoryDenyWriteExecute", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
        *("IPAddressDeny", "IPAddressAllow"),
    )
)
"""The properties of a unit that decide which files, devices and system calls its program has. What it writes to may not be there yet."""


ENGINE = "SupplementaryGroups=docker"
"""By which a unit starts a container: what is on trial runs on the host itself, with the rest of that unit's sandbox."""

OWN_CARDS = ("Environment=CUDA_VISIBLE_DEVICES=",)
"""What keeps one service to its cards, beside the devices that it may open."""


@dataclass(frozen=True)
class Place:
    """Where a service is tried: its files lie below `home`, it listens on `socket`, and `instead` has the values that options get there.

    Where it `serves` its models, a router loads them when it is asked for them; otherwise it loads none.
    """

    home: str
    socket: str
    instead: Mapping[str, str]
    serves: bool = False

    def in_presets(self, presets: bytes) -> bytes:
        """The same of a router's presets, and that no model is loaded when it starts: each key is tried with another value."""
        for key, value in {"load-on-startup": "false", **{option[2:]: value for option, value in self.instead.items()}}.items():
            presets = re.sub(rf"^({key}[ \t]*=).*$".encode(), rb"\1 " + value.encode(), presets, flags=re.MULTILINE)
        return presets


AT_THE_GATE = Place(HOME, SOCKET, INSTEAD)


@dataclass(frozen=True)
class Instance:
    """A service that is to run the release.

    `arguments` are llama-server's, as they are tried; `properties` its unit's, `User=…`. `files` are those that the arguments name and
    that land with the service, so later than the release: name in the trial → content. `presets` is where a router's lie on the host.
    """

    unit: str
    arguments: tuple[str, ...]
    properties: tuple[str, ...]
    files: Mapping[str, bytes]
    presets: str = ""


def instances(resources: Iterable[Resource], release: Release, at: Place = AT_THE_GATE) -> tuple[Instance, ...]:
    """The services that run the release, among a host's resources as `expand` gives them."""
    services = (each for each in resources if isinstance(each, Service) and any(one.id == release.id for one in each.restarts))
    return tuple(filter(None, (_instance(each, release, at) for each in services)))


def trial(release: Release, resources: Iterable[Resource], tiny_model: bytes, *, flags_only: bool = False) -> bytes:
    """The tar archive that resources/gate.sh takes: lists with one entry a line, a directory for each service, and the tiny model.

    With `flags_only` it is the release that serves already, and what is new is what its services read.
    """
    packed = io.BytesIO()
    further = ("flags-only", b"") if flags_only else ("tiny.gguf", tiny_model)
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in (*_members(release, instances(resources, release)), further):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644  # the service's user reads some of them
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _members(release: Release, found: Sequence[Instance]) -> Iterator[tuple[str, bytes]]:
    yield "features", _lines(release.cpu_features)
    yield "devices", _lines(release.devices)
    yield "environment", _lines(f"{name}={value}" for name, value in release.environment)
    yield "answer", _lines([ANSWER])
    yield "schema", _lines(["{}"])
    yield "properties", _lines(_of_any(found))
    for each in found:
        yield from ((f"services/{each.unit}/{name}", content) for name, content in each.files.items())
        yield f"services/{each.unit}/unit", _lines([each.unit])
        yield f"services/{each.unit}/arguments", _lines(each.arguments)
        yield f"services/{each.unit}/properties", _lines(each.properties)
        if each.presets:
            yield f"services/{each.unit}/presets", _lines([each.presets])


def _of_any(found: Sequence[Instance]) -> Iterator[str]:
    """The properties of the first, but with the cards of them all: each may be kept to some, and the release is to work on every one."""
    yield from (each for each in (found[0].properties if found else ()) if not each.startswith((*OWN_CARDS, "DeviceAllow=")))
    yield from dict.fromkeys(each for one in found for each in one.properties if each.startswith("DeviceAllow="))


def _instance(service: Service, release: Release, at: Place) -> Instance | None:
    files = {each.path: each for each in service.restarts if isinstance(each, File)}
    unit = next((file for path, file in files.items() if path.endswith(f"/{service.name}")), None)
    lines = tuple(_settings(unit.data.decode())) if unit else ()
    commands = (_words(value) for key, value in lines if key == "ExecStart")
    program = f"{release.current}/bin/llama-server"
    command = next((each[each.index(program) :] for each in commands if program in each), None)
    if command is None:
        return None
    arguments: list[str] = []
    tried: dict[str, bytes] = {}
    presets = ""
    for option, value in pairwise(command):
        if not at.serves and ELSEWHERE & {option, value}:
            continue
        file = files.get(value)
        if file is None or file.secret:
            arguments.append(at.instead.get(option, value))
            continue
        name = f"files/{len(tried)}"
        tried[name] = file.data
        arguments.append(f"{at.home}/services/{service.name}/{name}")
        if option == PRESETS:
            presets = value
            tried[name] = at.in_presets(file.data)
    if "--host" not in arguments:
        arguments += ["--host", at.socket]  # else llama-server takes a port of its own choice
    if presets and not at.serves:
        arguments.append(NO_AUTOLOAD)
    elif at.serves:
        arguments = [each for each in arguments if each != NO_AUTOLOAD]
    properties = tuple(
        f"{key}={each}" for key, value in lines if _decides(key, value) for each in _given(key, value) if f"{key}={each}" != ENGINE
    )
    whose = (f"User={service.user}",) if service.user else ()
    return Instance(service.name, tuple(arguments), (*whose, *properties), tried, presets)


def _decides(key: str, value: str) -> bool:
    """Cards that a service does not have are hidden from it, and the release is to work on each. Another version's back ends never are."""
    return key in OF_THE_UNIT or (key == "InaccessiblePaths" and value.removeprefix("-") in OTHER_GGML)


def _given(key: str, value: str) -> list[str]:
    """As systemd-run takes it, which reads `localhost` where it stands alone, but not beside an address."""
    return value.split() if key == "IPAddressAllow" else [value]


def _settings(unit: str) -> Iterator[tuple[str, str]]:
    """The lines of a unit's [Service], those that a backslash continues in one piece."""
    section = ""
    for line in unit.replace("\\\n", " ").split("\n"):
        key, equals, value = line.partition("=")
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and equals and not line.startswith(("#", ";")):
            yield key.strip(), value.strip()


def _words(command: str) -> list[str]:
    """The words of an ExecStart=: a unit doubles what it would expand otherwise."""
    return [each.replace("%%", "%").replace("$$", "$") for each in shlex.split(command.lstrip("@-:+!"))]


def _lines(entries: Iterable[str]) -> bytes:
    return "".join(f"{each}\n" for each in entries).encode()
