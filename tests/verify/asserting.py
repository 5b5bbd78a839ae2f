"""What it means on a host that a resource is so, asserted without the probe that `up` goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roles.resources import Directory, File, Line, Link, ModelFile, OnDisk, Package, Port, Release, Resource, Service, User
from tests.verify.subject import Subject

FILE = "regular file"


def assert_as_declared(subject: Subject, resource: Resource) -> None:
    """Raises AssertionError with what is not as declared: `mode is 600, not 644`. Content is told apart by its digest, and never shown."""
    host = subject.host
    match resource:
        case Package():
            package = host.package(resource.name)
            assert package.is_installed, "it is not installed"
            _is("version", package.version, resource.version or package.version)
        case User():
            user = host.user(resource.name)
            assert user.exists, "there is no such user"
            _is("home", user.home, resource.home)
            _is("shell", user.shell, "/usr/sbin/nologin")
            _is("groups", " ".join(sorted(user.groups)), " ".join(sorted({resource.name, *resource.groups})))
        case Directory():
            _is_on_disk(host, resource.path, "directory", resource.owner, resource.group, resource.mode)
            if resource.exclusive:
                _has_nothing_extra(subject, resource)
        case File():
            _is_on_disk(host, resource.path, FILE, resource.owner, resource.group, resource.mode)
            _is("sha256", host.file(resource.path).sha256sum, resource.sha256)
        case Line():
            found = host.run("grep --line-regexp --fixed-strings --count -e %s -- %s", resource.text, resource.path)
            assert found.rc == 0, "there is no such line"
        case Link():
            _is_on_disk(host, resource.path, "symbolic link")
            _is("target", host.check_output("readlink -- %s", resource.path), resource.target)
        case Release():
            _is_release(host, resource)
        case ModelFile():
            ours = ("root", "root", 0o644) if resource.origin != "host" else ()
            _is_on_disk(host, resource.path, FILE, *ours)
            _is("size", host.file(resource.path).size, resource.size or host.file(resource.path).size)
            noted = "" if subject.deep else _noted(host, resource.path)
            _is("sha256", noted or host.file(resource.path).sha256sum, resource.sha256)
        case Port():
            _listens_only_there(host, resource)
        case Service():
            _runs_what_is_declared(host, resource)
        case _:
            raise TypeError(resource)


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


def _has_nothing_extra(subject: Subject, directory: Directory) -> None:
    planned = {each.path for part in subject.plan.values() for each in part if isinstance(each, OnDisk)}
    inside = subject.host.check_output("find %s -mindepth 1 -maxdepth 1", directory.path).splitlines()
    assert not (extra := sorted(set(inside) - planned)), f"extra: nothing declares {', '.join(extra)}"


def _is_release(host: Any, release: Release) -> None:
    _is("current", host.check_output("readlink -- %s || true", release.current), release.path)
    _is("fingerprint", host.check_output("cat -- %s || true", f"{release.path}/.paddock-release"), release.fingerprint)
    altered = host.run("cd %s && sha256sum --check --quiet --strict MANIFEST", release.path)
    assert altered.rc == 0, f"its files are not as they were built: {altered.stdout}{altered.stderr}"


def _listens_only_there(host: Any, port: Port) -> None:
    sockets = host.check_output("ss -Hlnp %s %s", f"--{port.protocol}", f"sport = :{port.number}").splitlines()
    found = {line.split()[3].rpartition(":")[0].strip("[]").partition("%")[0] for line in sockets}
    _is("addresses", " ".join(sorted(found)), " ".join(sorted(port.addresses)))
    pids = {pid.partition(",")[0] for line in sockets for pid in line.split("pid=")[1:]}
    units = {_unit(host.check_output("ps -o unit=,uunit= -p %s", pid)) for pid in pids}
    _is("unit", " ".join(sorted(units)), port.unit)


def _properties(host: Any, service: Service) -> Mapping[str, str]:
    if not service.user:
        found: Mapping[str, str] = host.service(service.name).systemd_properties
        return found
    manager = "runuser -u %s -- env XDG_RUNTIME_DIR=/run/user/$(id -u %s) systemctl --user show %s"
    lines = host.check_output(manager, service.user, service.user, service.name).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _unit(said: str) -> str:
    """Of the system's unit and the account's own, in which a process is, the inner one."""
    system, own = said.split()
    return system if own == "-" else own


def _runs_what_is_declared(host: Any, service: Service) -> None:
    found = _properties(host, service)
    _is("active", found["ActiveState"], "active")
    _is("enabled", found["UnitFileState"], "enabled")
    _is("daemon-reload", found["NeedDaemonReload"], "no")
    if service.is_timer:
        return
    program = host.check_output("readlink /proc/%s/exe || true", found["MainPID"])
    assert not program.endswith(" (deleted)"), f"program: {program.removesuffix(' (deleted)')} was replaced since it was started"
    for what, digest in (("started", service.started), ("loaded", service.loaded)):
        where = f"/run/user/{host.user(service.user).uid}/paddock" if service.user else "/run/paddock"
        noted = host.check_output("readlink %s || true", f"{where}/{service.note}.{what}")
        assert noted == f"{found['InvocationID']}:{digest}", f"{what}: it runs what was declared earlier"
