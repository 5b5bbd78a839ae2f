"""Makes what is not as declared so: packages, users, what left the inventory, then role by role files, release, models, services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyinfra.operations import server

from control.work import TINY, Work
from deploys.applying import Steps, apply, stage
from deploys.models import land, room, uploaded, uploads
from deploys.packages import apt_ready, installed
from facts.drift import Origin, manifest_text
from facts.state import Actual
from roles.llama_cpp.gate import trial
from roles.resources import Directory, File, Line, Link, ModelFile, Package, Release, Resource, Service, User

GATE = Path(__file__).parent / "gate.sh"
MANIFEST = "/var/lib/paddock/manifest"

DROPIN = re.compile(r"/etc/systemd/system/([^/]+\.service)\.d/[^/]+")


def claim(work: Work) -> None:
    """Notes on the host what will be there, before any of it is: a run that dies leaves nothing behind that nobody knows.

    And sees that there is room for it, as far as models go, which is far.
    """
    if work.drift.claims != work.actual.manifest or work.actual.rest:
        apply(name="manifest", steps=_manifest(work.drift.claims))
    if steps := room(work):
        apply(name="room for models", steps=steps)


def prepare(work: Work) -> None:
    """Installs packages with their services held back, makes users, takes away what left the inventory.

    The last comes late, so that what still serves misses its old files for as short a time as can be.
    """
    packages = [each for each in work.wrong(Package) if isinstance(each, Package)]
    if packages:
        if steps := _holds(work):
            apply(name="services held back", steps=steps)
        if names := [each.name for each in packages if not each.deb]:
            installed("packages", names)
        for package in packages:
            if package.deb:
                apply(name=f"package {package.name} {package.version}", steps=_package_file(package, work.payload[package.id]))
    elif work.actual.rest:
        apt_ready("packages")
    for user in work.wrong(User):
        assert isinstance(user, User)
        server.user(  # noqa: S604 - a login shell, not one to run this
            name=f"user {user.name}",
            user=user.name,
            home=user.home,
            shell="/usr/sbin/nologin",
            groups=list(user.groups),
            system=True,
            ensure_home=False,
        )
        if not user.groups and user.id in work.actual.resources:
            apply(name=f"user {user.name}: groups", steps=_no_groups(user))
    if steps := _removals(work):
        apply(name="removals", steps=steps)


def converge(role: str, work: Work) -> None:
    """One role's stage: called for every role on every host, whether it carries the role or not."""
    stage(name=role, needs=work.needs.get(role, frozenset()))
    if steps := _files(role, work):
        apply(name=f"{role}: files", steps=steps)
    for model, local in uploads(role, work):
        uploaded(name=model.id, model=model, local=local)
    if steps := _services(role, work):
        apply(name=f"{role}: services", steps=steps)


def finish(work: Work) -> None:
    """The manifest says what is there now."""
    stage(name="done")
    if work.drift.claims != work.drift.manifest:
        apply(name="manifest", steps=_manifest(work.drift.manifest))


def _manifest(entries: Mapping[str, Origin]) -> Steps:
    steps = Steps()
    if entries:
        steps.add("file", "put", steps.pack(manifest_text(entries).encode(), mode=0o600), MANIFEST)
    else:
        steps.add("gone_manifest")
    return steps


def _removals(work: Work) -> Steps:
    """Packages go after what lies in their directories, and together, since they need each other; users after all that ran as them."""
    steps = Steps()
    gone = [change.id for change in work.drift.changes if change.sign == "-"]
    packages, users, again = [], [], []
    for name in gone:
        kind, _, what = name.partition(":")
        if kind == "package":
            packages.append(what)
        elif kind == "user":
            users.append(what)
        elif kind == "service" and work.actual.manifest[name] == "kept":
            again.append(what)
        elif kind in ("file", "link"):
            steps.add(f"gone_{kind}", work.actual.manifest[name], what)
        else:
            steps.add(f"gone_{kind}", *(what.split(": ", 1) if kind == "line" else [what]))
    if any(name.startswith(("file:/etc/systemd/", "service:")) for name in gone):
        steps.add("systemctl", "daemon-reload")
    for service in again:
        steps.add("again_service", service)
    if packages:
        steps.add("gone_packages", *packages)
    for user in users:
        steps.add("gone_user", user)
    return steps


def _holds(work: Work) -> Steps:
    steps = Steps()
    for service in work.wrong(Service):
        assert isinstance(service, Service)
        steps.add("hold", service.name)
    for name in _of_packages(work, work.wrong(File)):
        steps.add("hold", name)
    if steps:
        steps.add("systemctl", "daemon-reload")
    return steps


def _of_packages(work: Work, files: Sequence[Resource]) -> list[str]:
    """The services that no plan names and that are given a drop-in: one that comes with a package starts with it, or not at all."""
    declared = {each.name for each in work.resources if isinstance(each, Service)}
    named = (found[1] for each in files if isinstance(each, File) and (found := DROPIN.fullmatch(each.path)))
    return [name for name in dict.fromkeys(named) if name not in declared]


def _no_groups(user: User) -> Steps:
    """Takes the user out of all groups but its own, which pyinfra's operation leaves alone where it is given none."""
    steps = Steps()
    steps.add("usermod", "-G", "", user.name)
    return steps


def _package_file(package: Package, path: Path) -> Steps:
    steps = Steps()
    steps.add("package_file", package.name, steps.pack(path.read_bytes()))
    return steps


def _files(role: str, work: Work) -> Steps:
    """Directories, files, links, release and models. The services' stamps land with the services: after everything that they vouch for."""
    steps = Steps()
    stamps = {each.stamp.id for each in work.plan.get(role, ()) if isinstance(each, Service)}
    wrong = work.drift.of(role)
    for service, notes in _unread(work, {each.id for each in wrong}):
        steps.add("unvouched", service.unit, *notes)
    for each in _in_order(wrong, Directory, File, Line, Link, Release, ModelFile):
        if each.id not in stamps:
            _land(steps, each, work)
    for name in _of_packages(work, wrong):
        steps.add("unhold", name)
        steps.add("systemctl", "daemon-reload")
    return steps


def _unread(work: Work, wrong: set[str]) -> Iterator[tuple[Service, Sequence[str]]]:
    """The services that have read what is mended now as somebody had changed it, and which of their notes say otherwise: a run that dies
    after it has mended a file is to leave no note that makes its service look well.
    """
    for service in work.resources:
        if not isinstance(service, Service) or not wrong & {each.id for each in (*service.restarts, *service.reloads)}:
            continue
        differing = work.actual.differing(service)
        if notes := [note for note in ("started", "loaded") if note in differing and not differing[note][0]]:
            yield service, notes


def _land(steps: Steps, resource: Resource, work: Work) -> None:
    origin = work.drift.manifest.get(resource.id, "put")
    match resource:
        case Directory():
            steps.add("directory", resource.path, resource.owner, resource.group, f"{resource.mode:o}")
            for extra in work.actual.resources.get(resource.id, {}).get("extra", "").splitlines():
                steps.add("extra", extra)
        case File():
            steps.add("file", origin, steps.pack(resource.data, resource.owner, resource.group, resource.mode), resource.path)
        case Line():
            steps.add("line", origin, resource.path, resource.text)
        case Link():
            steps.add("link", origin, resource.path, resource.target)
        case Release():
            packed = steps.pack_file(work.payload[resource.id]) if resource in work.missing else ""
            gate, tried = _gate(steps, resource, work)
            steps.add("release", resource.current, resource.path, resource.fingerprint, packed, gate, tried)
        case ModelFile():
            land(steps, resource, work)


def _gate(steps: Steps, release: Release, work: Work) -> tuple[str, str]:
    """The gate, and what it tries the release with. Nothing where there is no model to try it with."""
    if TINY not in work.payload:
        return "", ""
    return steps.pack(GATE.read_bytes()), steps.pack(trial(release, work.resources, work.payload[TINY].read_bytes()))


def _services(role: str, work: Work) -> Steps:
    """Stamps, then starts. A service whose port is not as declared is restarted even where it is otherwise well: it may have been taken.

    One of which a file was mended, so that it is what the service runs already, is left as it is; but systemd is to read it again.
    """
    steps = Steps()
    wrong = {each.id for each in work.drift.of(role)}
    services = [each for each in work.plan.get(role, ()) if isinstance(each, Service)]
    services = [each for each in services if {each.id, *(part.id for part in (each.stamp, *each.ports, *each.restarts))} & wrong]
    for service in services:
        if service.stamp.id in wrong:
            _land(steps, service.stamp, work)
        steps.add("unhold", service.name)
    if services:
        steps.add("systemctl", "daemon-reload")
    # Who listens on a port that another is to have gives it up first: two that change places would wait for each other.
    holders = {work.actual.resources.get(port.id, {}).get("unit") for service in services for port in service.ports if port.id in wrong}
    for service in services:
        if service.name in holders:
            steps.add("vacate", service.unit)
    for account in sorted({service.user for service in services} - {""}):
        steps.add("awake", account)
    for service in services:
        verb = _verb(service, work.actual, {port.id for port in service.ports} & wrong)
        for command in service.validate if verb != "none" else ():
            steps.add("valid", service.unit, command)
        steps.add("service", service.unit, verb, service.ready_timeout_s, *(f"{port.number}/{port.protocol}" for port in service.ports))
    return steps


def _verb(service: Service, actual: Actual, ports: set[str]) -> str:
    """What brings in what the running process has not read: a start, a reload or a restart."""
    found = actual.resources.get(service.id, {})
    if found.get("active") != "active" or found.get("program") != "current" or found.get("started") != service.started or ports:
        return "restart"
    if found.get("loaded") != service.loaded:
        return "reload" if service.reloads else "restart"
    return "none"


def _in_order(resources: Sequence[Resource], *kinds: type[Resource]) -> Iterator[Resource]:
    for kind in kinds:
        yield from (each for each in resources if type(each) is kind)
