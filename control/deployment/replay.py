"""An earlier configuration of a host: what is kept of it there, and the plan that it makes with what the inventory says today.

The roles that roll back are as they were. Who is let in is never taken back: every other role, certificates, secrets, the encrypted ways
between hosts and who may reach a port are those of today's plan.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import error as ZlibError

from pydantic import ValidationError

from inventory.bounds import HISTORY, from_json, size_words
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from resources import Directory, File, ModelFile, OnDisk, Port, Release, Resource, ResourceError, Service, of_kind
from resources.base import PADDOCKS
from resources.codec import contents, read, written
from resources.history import PACKED_MOST, Line
from resources.leaving import UNITS
from roles.host_plan import HostPlan, rolls_back
from roles.role import SHARED_DIRECTORY
from roles.sandbox import HOME
from roles.server import KEY_FILE

FORMAT = 1

WAYS = re.compile(
    r"(file|directory):/etc/paddock/[a-z-]+-tunnel(/.+)?"
    r"|(service:|(file|directory):/etc/systemd/system/)paddock-(expiry-)?[a-z-]+-tunnel\b.*"
    r"|file:/etc/paddock/expiry/[a-z-]+-tunnel[a-z.-]*|directory:/etc/paddock/expiry"
    r"|(file|directory):/etc/systemd/system/haproxy\.service\.d(/.+)?|package:haproxy|user:paddock-tunnel"
)
"""The encrypted ways between hosts, which let hosts in by their certificates: a part of roles that roll back, and always today's."""

NEEDED_BY_WAYS = ("package:openssl", "user:paddock-callers", "directory:/etc/paddock")
A_WAY = re.compile(r"\bpaddock-[a-z-]+-tunnel[A-Za-z0-9_.@-]*\.(?:service|socket|target)\b")

PLACES = (*PADDOCKS, *UNITS, f"{HOME}/", "/etc/modprobe.d/paddock-")
"""Where the roles that roll back put files."""

LOOPBACK = re.compile(r"127\..*|::1")


def packed(host: str, plan: HostPlan, fleet: Fleet) -> bytes:
    """The entry of a host's configuration, as the host keeps it: no secret is in it, only references."""
    kept = _kept(plan)
    carried = {role: settings for role, settings in fleet.hosts[host].carried.items() if role in kept}
    entry = {
        "format": FORMAT,
        "plan": written(kept),
        "settings": {role: each.model_dump(mode="json", exclude_none=True) for role, each in carried.items()},
        "models": {name: each.model_dump(mode="json", exclude_none=True) for name, each in fleet.served_models(host).items()},
    }
    return gzip.compress(json.dumps(entry).encode(), mtime=0)


def digest_of(plan: HostPlan) -> str:
    """Sixteen hex digits that tell a host's configuration from others, as far as it rolls back. A changed secret is the same one."""
    data = written(_kept(plan))
    for resources in data.values():
        for at, each in enumerate(resources):
            if each["kind"] == Release.kind:
                resources[at] = {"id": each["id"], "fingerprint": each["fingerprint"]}
            each.pop("needed", None)
        resources.sort(key=lambda each: str(each["id"]))  # what ways need comes first where an entry is put together
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def release_of(plan: HostPlan) -> str:
    """What a host serves by its plan, as its directory is called; `-` where nothing."""
    return next((each.name for part in plan.values() for each in of_kind(part, Release)), "-")


def _kept(plan: HostPlan) -> HostPlan:
    """What an entry has: the roles that roll back, without what others imply, and without who is let in."""
    return {role: tuple(_plain(part)) for role, part in plan.items() if rolls_back(role)}


def _plain(part: Iterable[Resource]) -> Iterator[Resource]:
    part = tuple(part)
    stamps = {each.stamp.id for each in of_kind(part, Service)}
    for each in part:
        if isinstance(each, Port) or each.id in stamps or WAYS.fullmatch(each.id):
            continue
        if isinstance(each, Service):
            each = replace(each, ports=tuple(replace(port, reachable_from=None) for port in each.ports), accepted=())
        yield each


@dataclass(frozen=True)
class Entry:
    """An earlier configuration, as the host gave it: nothing of it is believed before it is put together with today's plan."""

    line: Line
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"entry {self.line.number}"

    def parts(self, today: HostPlan) -> HostPlan:
        """The roles that roll back, as they were, with what is today's in them. Raises PaddockError where they cannot be so any more."""
        data = self.data["plan"]
        if unknown := [role for role in data if not rolls_back(role)]:
            raise PaddockError(f"{self.name}: this version of Paddock takes back no role {unknown[0]!r}")
        secrets = contents(today)
        if lost := sorted(_secrets_in(data) - secrets.keys()):
            path = lost[0].removeprefix("file:")
            raise PaddockError(
                f"{self.name} reads the secret {path}, which the inventory gives this host no more: no rollback brings it back"
            )
        try:
            found = read(data, secrets.__getitem__)
        except ResourceError as error:
            raise PaddockError(f"{self.name}: this version of Paddock cannot read it: {error}") from None
        self._require_places(found, today)
        self._require_key(found, today)
        ways = {role: _ways(today[role]) if role in found else () for role in found}
        self._require_ways(found, today)
        ports = {each.place: each for part in today.values() for each in of_kind(part, Port)}
        return {role: (*ways[role], *(self._as_today(each, ports) for each in part)) for role, part in found.items()}

    def as_it_was(self, host: str, fleet: Fleet) -> Fleet:
        """The fleet with this host as it was, for its checks. Raises PaddockError where this version does not know what it had."""
        data = fleet.model_dump(mode="json", exclude_none=True)
        roles = {role: each for role, each in data["hosts"][host]["roles"].items() if not rolls_back(role)}
        data["hosts"][host]["roles"] = {**roles, **self.data["settings"]}
        data["models"] = {**data.get("models", {}), **self.data["models"]}
        try:
            return Fleet.model_validate(data)
        except (ValidationError, ValueError, TypeError) as error:
            first = str(error).partition("\n")[0]
            raise PaddockError(f"{self.name}: this version of Paddock does not take the settings that it has: {first}") from None

    def _as_today(self, resource: Resource, ports: Mapping[str, Port]) -> Resource:
        """Who may reach a service is today's to say. Raises PaddockError for one that listens where today nothing does."""
        if not isinstance(resource, Service):
            return resource
        changed = []
        for port in resource.ports:
            now = next((each for each in ports.values() if (each.number, each.protocol) == (port.number, port.protocol)), None)
            outside = {each for each in port.addresses if not LOOPBACK.fullmatch(each)}
            if outside - set(now.addresses if now else ()):
                where = f"port {port.number}/{port.protocol} of {', '.join(sorted(outside))}"
                raise PaddockError(f"{self.name} opens {where}, which the inventory does not any more: no rollback lets anybody in")
            changed.append(replace(port, reachable_from=now.reachable_from if now else ()))
        return replace(resource, ports=tuple(changed))

    def _require_places(self, found: HostPlan, today: HostPlan) -> None:
        known = {each.path for part in today.values() for each in of_kind(part, OnDisk)}
        for each in (each for part in found.values() for each in of_kind(part, OnDisk)):
            if each.path in known or f"{each.path}/".startswith(PLACES) or isinstance(each, ModelFile):
                continue
            if isinstance(each, Directory) and not each.exclusive and not SHARED_DIRECTORY.fullmatch(each.path):
                continue  # models lie where somebody wants them
            raise PaddockError(f"{self.name} names {each.path}, where no role that rolls back has anything: it is not taken")

    def _require_key(self, found: HostPlan, today: HostPlan) -> None:
        key, there = f"file:{KEY_FILE}", {each.id for part in found.values() for each in part}
        if any(each.id == key for part in today.values() for each in part) and key not in there and "llama_server" in found:
            raise PaddockError(f"{self.name} is of before its servers asked for an API key: no rollback opens them again")

    def _require_ways(self, found: HostPlan, today: HostPlan) -> None:
        text = "\n".join(str(each.content) for part in found.values() for each in of_kind(part, File) if each.path.startswith(UNITS))
        declared = {each.path.rpartition("/")[2] for part in today.values() for each in of_kind(part, File)}
        if lost := sorted(set(A_WAY.findall(text)) - declared):
            raise PaddockError(f"{self.name} needs {lost[0]}, a way to another host that the inventory does not have any more")


def _ways(part: Iterable[Resource]) -> tuple[Resource, ...]:
    """Of today's plan of a role the encrypted ways, with what they need, and without what they imply."""
    part = tuple(part)
    ways = [each for each in part if WAYS.fullmatch(each.id)]
    stamps = {each.stamp.id for each in of_kind(ways, Service)}
    return tuple(each for each in part if ways and each.id not in stamps and (each in ways or each.id in NEEDED_BY_WAYS))


def _secrets_in(data: Any) -> set[str]:
    """The ids of the secrets that a plan as data refers to."""
    found, left = set(), [data]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            if isinstance(name := each.get("secret"), str):
                found.add(name)
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)
    return found


def entry_of(line: Line, packed_plan: bytes) -> Entry:
    """What a host gave as an entry. Raises PaddockError for what is none, and for what is too large."""
    where = f"entry {line.number}"
    if not packed_plan:
        raise PaddockError(f"{where}: the host does not have it any more")
    if len(packed_plan) > PACKED_MOST:
        raise PaddockError(f"{where}: it is larger than {size_words(PACKED_MOST)}: it is not read")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed_plan)) as file:
            text = file.read(HISTORY.size + 1)
    except (OSError, EOFError, ZlibError):
        raise PaddockError(f"{where}: it is damaged: nothing can be read of it") from None
    if len(text) > HISTORY.size:
        raise PaddockError(f"{where}: it is larger than {size_words(HISTORY.size)}: it is not read")
    try:
        data = from_json(text)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise PaddockError(f"{where}: it is damaged: it is no configuration")
    if data["format"] != FORMAT:
        raise PaddockError(f"{where}: another version of Paddock wrote it, in format {data['format']}: this one reads format {FORMAT}")
    plan = data.get("plan")
    of_lists = isinstance(plan, dict) and all(
        isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in plan.values()
    )
    if not of_lists or not all(isinstance(data.get(name), dict) for name in ("settings", "models")):
        raise PaddockError(f"{where}: it is damaged: it is no configuration")
    return Entry(line, data)
