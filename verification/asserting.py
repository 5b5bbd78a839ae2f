"""What it means on a host that a resource is so, asserted without the probe that `up` goes by."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from resources import (
    Directory,
    File,
    Line,
    Link,
    ModelFile,
    OnDisk,
    Package,
    Port,
    Release,
    Releases,
    Resource,
    Service,
    User,
    Venv,
    lines_of,
)
from resources.guard import GUARD
from resources.port import EVERYWHERE
from roles.role import render
from verification.subject import VerifiedHost

FILE = "regular file"
VENDORS = r"$|/(usr/)?lib/systemd/|/run/systemd/generator"
STABLE_S = 600


def assert_as_declared(subject: VerifiedHost, resource: Resource) -> None:
    """Raises AssertionError with what is not as declared: `mode is 600, not 644`. Content is told apart by its digest, and never shown."""
    if look := LOOKS.get(resource.kind):
        look(subject, resource)
        return
    for what, command, declared in resource.second_look():
        _is(what, subject.host.check_output(command.replace("%", "%%")), declared)


def _package(subject: VerifiedHost, resource: Package) -> None:
    if not resource.needed:
        return
    package = subject.host.package(resource.name)
    assert package.is_installed, "it is not installed"
    if resource.version:
        _is("version", package.version, resource.version)


def _user(subject: VerifiedHost, resource: User) -> None:
    if not resource.needed:
        return
    user = subject.host.user(resource.name)
    assert user.exists, "there is no such user"
    _is("home", user.home, resource.home)
    _is("shell", user.shell, "/usr/sbin/nologin")
    groups = set(user.groups) if resource.only else set(user.groups) & resource.all_groups
    _is("groups", " ".join(sorted(groups)), " ".join(sorted(resource.all_groups)))


def _directory(subject: VerifiedHost, resource: Directory) -> None:
    if resource.data:
        return
    _is_on_disk(subject.host, resource.path, "directory", resource.owner, resource.group, resource.mode)
    if resource.exclusive:
        _has_nothing_extra(subject, resource)


def _file(subject: VerifiedHost, resource: File) -> None:
    _is_on_disk(subject.host, resource.path, FILE, resource.owner, resource.group, resource.mode)
    _is("sha256", subject.host.file(resource.path).sha256sum, resource.sha256)


def _line(subject: VerifiedHost, resource: Line) -> None:
    found = subject.host.run("grep --line-regexp --fixed-strings --count -e %s -- %s", resource.text, resource.path)
    assert found.rc == 0, "there is no such line"


def _link(subject: VerifiedHost, resource: Link) -> None:
    _is_on_disk(subject.host, resource.path, "symbolic link")
    _is("target", subject.host.check_output("readlink -- %s", resource.path), resource.target)


def _model(subject: VerifiedHost, resource: ModelFile) -> None:
    host = subject.host
    ours = ("root", "root", 0o644) if resource.origin != "host" else ()
    _is_on_disk(host, resource.path, FILE, *ours)
    if resource.size:
        _is("size", host.file(resource.path).size, resource.size)
    noted = "" if subject.deep else _noted(host, resource.path)
    _is("sha256", noted or host.file(resource.path).sha256sum, resource.sha256)


def _is(what: str, found: object, declared: object) -> None:
    assert found == declared, f"{what} is {found or 'none'}, not {declared}"


def _is_on_disk(host: Any, path: str, kind: str, owner: str = "", group: str = "", mode: int = 0) -> None:
    """Of a link it is the link that is looked at. Without an owner, whose it is does not matter."""
    found = host.run("stat --format='%%F|%%U|%%G|%%a' -- %s", path)
    assert found.rc == 0, f"type is none, not {kind}: nothing is there"
    its_kind, *ownership = found.stdout.strip().split("|")
    _is("type", FILE if its_kind == "regular empty file" else its_kind, kind)
    if owner:
        for what, actual, declared in zip(("owner", "group", "mode"), ownership, (owner, group, f"{mode:o}"), strict=True):
            _is(what, actual, declared)


def _noted(host: Any, path: str) -> str:
    """The digest that root noted of a model; nothing where that was of another size, time or inode than the file has now."""
    key = host.check_output("printf %%s %s | sha256sum | cut -c -32", path)
    now = host.check_output("stat --format='%%s %%Y %%i' -- %s", path)
    for note in (f"{path}.sha256", f"/var/lib/paddock/digests/{key}"):
        owner, _, noted = host.run("stat --format=%%U -- %s && head -n 1 -- %s", note, note).stdout.strip().partition("\n")
        sha256, _, then = noted.partition(" ")
        if owner == "root" and then == now:
            return str(sha256)
    return ""


def _has_nothing_extra(subject: VerifiedHost, directory: Directory) -> None:
    """What only an earlier plan named is there while a switch waits for its confirmation: it may be taken back."""
    planned = {each.path for part in subject.plan.values() for each in part if isinstance(each, OnDisk)}
    if subject.host.file(f"{GUARD}/armed").exists:
        planned |= {line.partition(":")[2] for line in lines_of(subject.host.check_output("cat /var/lib/paddock/manifest"))}
    inside = lines_of(subject.host.check_output("find %s -mindepth 1 -maxdepth 1", directory.path))
    assert not (extra := sorted(set(inside) - planned)), f"extra: nothing declares {', '.join(extra)}"


def _release(subject: VerifiedHost, release: Release) -> None:
    host = subject.host
    _is("current", host.check_output("readlink -- %s || true", release.current), release.path)
    _is("fingerprint", host.check_output("cat -- %s || true", f"{release.path}/.paddock-release"), release.fingerprint)
    if release.manifest:
        listed = host.check_output("sha256sum -- %s | cut -c 1-64", f"{release.path}/MANIFEST")
        assert listed == release.manifest, f"its list of files has the sha256 {listed}, and the fleet's key has signed {release.manifest}"
        there, named = (lines_of(host.check_output(f"cd %s && {ask}", release.path)) for ask in ("find bin -type f", "cut -c 67- MANIFEST"))
        assert not (more := sorted(set(there) - set(named))), f"its list of files does not have {', '.join(more)}"
    altered = host.run("cd %s && sha256sum --check --quiet --strict MANIFEST", release.path)
    assert altered.rc == 0, f"its files are not as they were built: {altered.stdout}{altered.stderr}"


def _releases(subject: VerifiedHost, releases: Releases) -> None:
    """One that a process runs is left for it, and all of them while a switch waits for its confirmation: it may be taken back."""
    host, current = subject.host, f"{releases.path.rpartition('/')[0]}/current"
    assert host.file(releases.path).is_directory, f"{releases.path} is no directory"
    if host.file(f"{GUARD}/armed").exists:
        return
    lying = set(lines_of(host.check_output("find %s -mindepth 1 -maxdepth 1 -type d ! -name '*.paddock' -printf '%%p\\n'", releases.path)))
    run = {each.partition("/bin/")[0] for each in lines_of(host.run("readlink /proc/[0-9]*/exe").stdout)}
    idle = sorted(lying - run - {host.check_output("readlink -- %s || true", current)})
    assert len(idle) < releases.most, f"more than {releases.most} releases lie there: besides the one that serves {', '.join(idle)}"


INSTALLED = r"""
import base64, hashlib, importlib.metadata, pathlib, re, sys
recorded = set()
for each in importlib.metadata.distributions():
    print("package", re.sub("[-_.]+", "_", each.name).lower() + "==" + each.version)
    for file in each.files or ():
        path = pathlib.Path(file.locate()).resolve()
        recorded.add(path)
        if not path.is_file():
            print("file", path, "is missing")
            continue
        found = hashlib.new(file.hash.mode if file.hash else "sha256", path.read_bytes()).digest()
        if file.hash and base64.urlsafe_b64encode(found).decode().rstrip("=") != file.hash.value:
            print("file", path, "is not as its package has it")
made = pathlib.Path(sys.prefix).resolve()
for path in made.glob("lib/**/*"):
    if path.is_file() and path not in recorded:
        print("file", path, "is of no package")
for path in (made, *made.rglob("*")):
    if not path.is_symlink() and (path.stat().st_uid or path.stat().st_mode & 0o022):
        print("file", path, "can be written by others than root")
"""
"""What an environment's Python says of it: its packages, and each file that is not as their records say."""


def _venv(subject: VerifiedHost, venv: Venv) -> None:
    """Python itself is asked for what the wheels have brought, and each package's own record for what its files are."""
    host, python = subject.host, f"{venv.current}/bin/python"
    assert host.run("test -x %s", python).rc == 0, "there is no environment"
    version = "import sys; print(*sys.version_info[:2])"
    _is("python", host.run("%s -I -c %s", python, version).stdout, host.run("/usr/bin/python3 -I -c %s", version).stdout)
    said = [line.partition(" ") for line in lines_of(host.check_output("%s -I -B -c %s", python, INSTALLED))]
    wrong = sorted(words for what, _, words in said if what == "file")
    assert not wrong, f"files: {wrong[0]}" + (f", and {len(wrong) - 1} more" if wrong[1:] else "")
    _is("packages", " ".join(sorted(words for what, _, words in said if what == "package")), " ".join(sorted(venv.packages)))


def _port(subject: VerifiedHost, port: Port) -> None:
    host = subject.host
    sockets = lines_of(host.check_output("ss -Hlnp %s %s", f"--{port.protocol}", f"sport = :{port.number}"))
    at = {line: line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0] for line in sockets}
    if port.shared:
        sockets = [line for line in sockets if at[line] in (*port.addresses, *EVERYWHERE)]
    found = {at[line] for line in sockets}
    _is("addresses", " ".join(sorted(found)), " ".join(sorted(port.addresses)))
    units = {unit for line in sockets for unit in _holders(host, line)}
    _is("unit", " ".join(sorted(units)), port.unit)


def _holders(host: Any, socket: str) -> set[str]:
    """Who has a socket. Of one that systemd has it is the socket unit, with the service that it has handed it to."""
    pids = {pid.partition(",")[0] for pid in socket.split("pid=")[1:]}
    if "1" in pids:
        at = socket.split()[3].replace("*", "[::]").partition("%")[0]
        listed = (line.split() for line in lines_of(host.check_output("systemctl list-sockets --plain --no-legend")))
        if units := {each[1] for each in listed if each[0] == at}:
            return units
    return {_unit(host.check_output("ps -o unit=,uunit= -p %s", pid)) for pid in pids}


def _properties(host: Any, service: Service) -> Mapping[str, str]:
    if not service.user:
        found: Mapping[str, str] = host.service(service.name).systemd_properties
        return found
    lines = lines_of(host.check_output(f"{render('manager.sh')}\nmanager %s show %s", service.user, service.name))
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _unit(said: str) -> str:
    """Of the system's unit and the account's own, in which a process is, the inner one."""
    system, own = said.split()
    return system if own == "-" else own


def _service(subject: VerifiedHost, service: Service) -> None:
    host = subject.host
    found = _properties(host, service)
    _is("active", found["ActiveState"], "active")
    _is("enabled", found["UnitFileState"], "enabled")
    _is("daemon-reload", found["NeedDaemonReload"], "no")
    if service.reads:
        _has_its_own_units(subject, service, found)
    if service.is_trigger:
        return
    if service.in_force:
        assert host.run("sh -c %s", service.in_force).rc == 0, "in force: what it has put there, somebody has changed or taken away"
    if service.left_open:
        assert host.run("sh -c %s", service.left_open).rc != 0, "left open: it holds connections that only a restart ends"
    main = found.get("MainPID", "0")  # of one that ends at once nothing runs, nor of a socket unit
    if main != "0":
        _is_stable(host, found)
    if not service.is_stamped:
        return
    if main != "0":
        _has_its_own_environment(host, found)
    program = host.check_output("readlink /proc/%s/exe || true", main)
    assert not program.endswith(" (deleted)"), f"program: {program.removesuffix(' (deleted)')} was replaced since it was started"
    for what, digest in (("started", service.started), ("loaded", service.loaded)):
        where = f"/run/user/{host.user(service.user).uid}/paddock" if service.user else "/run/paddock"
        noted = host.check_output("readlink %s || true", f"{where}/{service.note}.{what}")
        assert noted == f"{found['InvocationID']}:{digest}", f"{what}: it runs what was declared earlier"


def _has_its_own_units(subject: VerifiedHost, service: Service, found: Mapping[str, str]) -> None:
    """Of the distribution's drop-ins none is asked after: they come with its packages."""
    planned = {each.path for part in subject.plan.values() for each in part if isinstance(each, File)} | set(service.accepted)
    loaded = [each for each in (found["FragmentPath"], *found.get("DropInPaths", "").split()) if not re.match(VENDORS, each)]
    assert not (extra := [each for each in loaded if each not in planned]), f"units: nothing declares {', '.join(extra)}"


def _is_stable(host: Any, found: Mapping[str, str]) -> None:
    """How long it has run is asked of the process, not of systemd."""
    if found.get("NRestarts", "0") == "0":
        return
    age_s = int(host.check_output("ps -o etimes= -p %s", found["MainPID"]))
    assert age_s > STABLE_S, f"restarts: systemd had to start it {found['NRestarts']} times again, the last time {age_s} s ago"


def _has_its_own_environment(host: Any, found: Mapping[str, str]) -> None:
    """Variables with which llama.cpp is told what to do: each is the unit's own, and none comes from systemd's manager."""
    variables = host.check_output(r"tr '\0' '\n' </proc/%s/environ | cut -d= -f1", found["MainPID"]).split()
    steering = {each for each in variables if re.match(r"(LLAMA_ARG|GGML|CUDA|LD)_", each)}
    own = set(re.findall(r"""(?:^|[\s"'])([A-Z_][A-Za-z0-9_]*)=""", found.get("Environment", "")))
    assert not (extra := sorted(steering - own)), f"environment: its unit does not set {', '.join(extra)}"


LOOKS: Mapping[str, Callable[[VerifiedHost, Any], None]] = {
    "package": _package,
    "user": _user,
    "directory": _directory,
    "file": _file,
    "line": _line,
    "link": _link,
    "release": _release,
    "releases": _releases,
    "venv": _venv,
    "model": _model,
    "port": _port,
    "service": _service,
}
"""Kind → how it is looked at. A kind that is not here says so itself (`second_look`)."""
