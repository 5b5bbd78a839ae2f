"""What can be wrong with a resource: for each of its attributes a fault at least, which one shell script causes and another undoes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from shlex import quote

from resources import Directory, File, Line, Link, ModelFile, Owned, Package, Port, Release, Releases, Resource, Service, User, Venv
from resources.localimage import LocalImage
from resources.stack import Image, Stack, Volume

ASIDE = "/var/tmp/paddock-fault"
"""Where on the host lies what a fault has put away."""

OTHER = "paddock-fault.service"
"""A unit that is none of Paddock's."""

UNSEEN = ""
"""In place of an attribute: only the verification sees it. The probe believes what was noted of a file that looks untouched since."""


@dataclass(frozen=True)
class Fault:
    """`attribute` is the one of `resource.desired` that the probe is to name, `says` what the verification's error begins with."""

    resource: Resource
    name: str
    attribute: str
    cause: str
    undo: str
    says: str

    def __str__(self) -> str:
        return f"{self.resource.id}: {self.name}"


def faults_of(resource: Resource) -> Iterator[Fault]:
    """Raises NotImplementedError for a kind of resource that has none here: what has no fault has no proof that its check can fail."""
    match resource:
        case Package() | User() if not resource.needed:
            return
        case Directory() if resource.data:  # a service makes it: nothing is declared of it but whose it is
            return
        case Package():
            yield from _of_package(resource)
        case User():
            yield from _of_user(resource)
        case Directory():
            yield from _of_directory(resource)
        case File():
            yield from _of_file(resource)
        case Line():
            yield from _of_line(resource)
        case Link():
            yield from _of_link(resource)
        case ModelFile():
            yield from _of_model(resource)
        case Release():
            yield from _of_release(resource)
        case Releases():
            yield from _of_releases(resource)
        case Venv():
            yield from _of_venv(resource)
        case Port():
            yield from _of_port(resource)
        case Service():
            yield from _of_service(resource)
        case Image():
            yield Fault(
                resource,
                "removed",
                "state",
                f"docker image rm --force {resource.reference} >/dev/null",
                f"docker pull --quiet {resource.reference} >/dev/null",
                "image is none",
            )
        case LocalImage():
            there, aside = resource.reference, "paddock-fault:aside"
            cause = f"docker image tag {there} {aside}; docker image rm --force {there} >/dev/null"
            undo = f"docker image tag {aside} {there}; docker image rm {aside} >/dev/null"
            yield Fault(resource, "removed", "made of", cause, undo, "made of is none")
        case Volume():
            yield from _of_volume(resource)
        case Stack():
            yield from _of_stack(resource)
        case _:
            raise NotImplementedError(f"no fault is known for {resource.id}: write some into tests/faults/catalogue.py")


def _of_package(package: Package) -> Iterator[Fault]:
    """Its files, and what dpkg knows of it, come back as they were: the version that is installed may be in no archive any more."""
    name = package.name
    listed = f"dpkg-query -L {name}; ls /var/lib/dpkg/info/{name}[.:]* /var/lib/dpkg/status"
    there = 'while read -r each; do [ ! -e "$each" ] || echo "$each"; done'
    packed = f"mkdir -p {ASIDE}; {{ {listed}; }} | {there} | tar -cPf {ASIDE}/it --no-recursion -T -"
    units = f"dpkg-query -L {name} | sed -n 's|.*/systemd/system/\\([^/@]*[.]service\\)$|\\1|p'"
    unmasked = f'DPKG_MAINTSCRIPT_PACKAGE={name} deb-systemd-helper unmask "$unit" >/dev/null; systemctl daemon-reload'
    started = f'{unmasked}; ! systemctl is-enabled --quiet "$unit" || systemctl restart "$unit"'
    undo = f"tar -xPf {ASIDE}/it; ldconfig; for unit in $({units}); do {started}; done"
    yield Fault(package, "removed", "state", f"{packed}; dpkg --remove --force-depends {name} >/dev/null 2>&1", undo, "it is not installed")


def _of_user(user: User) -> Iterator[Fault]:
    name = user.name

    def edited(what: str, attribute: str, sed: str, says: str) -> Fault:
        return Fault(user, what, attribute, f"{_kept('/etc/passwd')}; sed -i -E {quote(sed)} /etc/passwd", _put_back("/etc/passwd"), says)

    yield edited("missing", "home", f"/^{name}:/d", "there is no such user")
    other = "/nonexistent" if user.home != "/nonexistent" else "/srv"
    yield edited("another home", "home", f"s|^({name}:.*):{user.home}:|\\1:{other}:|", f"home is {other}")
    yield edited("may log in", "shell", f"s|^({name}:.*:)[^:]*$|\\1/bin/sh|", "shell is /bin/sh")
    groups = " ".join(sorted({name, "disk", *user.groups}))
    joined, left = (f"gpasswd -{option} {name} disk >/dev/null" for option in "ad")
    yield Fault(user, "in one group more", "groups", joined, left, f"groups is {groups}")


def _of_directory(directory: Directory) -> Iterator[Fault]:
    path = quote(directory.path)
    yield Fault(directory, "missing", "type", _away(path), _back(path), "type is none")
    yield Fault(directory, "a link", "type", f"{_away(path)}; ln -s {ASIDE}/it {path}", _back(path), "type is symbolic link")
    yield from _of_ownership(directory, "777")
    if directory.exclusive:
        for name in ("extra.caddy", ".hidden", "old key\u00e9.pem", "directory/"):
            extra = quote(f"{directory.path}/{name}".rstrip("/"))
            make = f"mkdir {extra}" if name.endswith("/") else f"touch {extra}"
            yield Fault(directory, f"{name} lies in it", "extra", make, f"rm -r {extra}", "extra: nothing declares")


def _of_file(file: File) -> Iterator[Fault]:
    path = quote(file.path)
    yield Fault(file, "missing", "type", _away(path), _back(path), "type is none")
    yield Fault(file, "a link", "type", f"{_away(path)}; ln -s {ASIDE}/it {path}", _back(path), "type is symbolic link")
    yield from _of_ownership(file, "666")
    yield Fault(file, "one line more", "sha256", f"{_kept(path)}; echo '# mine' >>{path}", _put_back(path), "sha256 is")
    yield Fault(file, "other content that looks untouched", "sha256", f"{_kept(path)}; {_same_size(path)}", _put_back(path), "sha256 is")


def _of_ownership(resource: Owned | ModelFile, mode: str) -> Iterator[Fault]:
    """Without a trace elsewhere: what is changed is put back to what was declared."""
    path, desired = quote(resource.path), resource.desired
    yield Fault(resource, "another owner", "owner", f"chown games {path}", f"chown {desired['owner']} {path}", "owner is games")
    yield Fault(resource, "another group", "group", f"chgrp games {path}", f"chgrp {desired['group']} {path}", "group is games")
    yield Fault(resource, "open to all", "mode", f"chmod {mode} {path}", f"chmod {desired['mode']} {path}", f"mode is {mode}")


def _of_line(line: Line) -> Iterator[Fault]:
    path, text = quote(line.path), quote(line.text)
    without = f"{_kept(path)}; grep -vxF -e {text} {ASIDE}/it >{path} || true"
    for name, cause in {
        "missing": without,
        "commented out": f"{without}; echo '# '{text} >>{path}",
        "cut short": f"{without}; echo {quote(line.text[:-1])} >>{path}",
        "the whole file missing": f"{_kept(path)}; rm {path}",
    }.items():
        yield Fault(line, name, "line", cause, _put_back(path), "there is no such line")


def _of_link(link: Link) -> Iterator[Fault]:
    path = quote(link.path)
    yield Fault(link, "missing", "type", _away(path), _back(path), "type is none")
    yield Fault(link, "a file", "type", f"{_away(path)}; touch {path}", _back(path), "type is regular file")
    yield Fault(link, "leads elsewhere", "target", f"{_away(path)}; ln -s /nonexistent {path}", _back(path), "target is /nonexistent")


def _of_model(model: ModelFile) -> Iterator[Fault]:
    path = quote(model.path)
    yield Fault(model, "missing", "type", _away(path), _back(path), "type is none")
    yield Fault(model, "a link", "type", f"{_away(path)}; ln -s {ASIDE}/it {path}", _back(path), "type is symbolic link")
    yield from _of_ownership(model, "666")
    # A server has the file mapped into its memory: its inode stays.
    again = f"cat {ASIDE}/it >{path}; touch -r {ASIDE}/it {path}"
    yield Fault(model, "one byte more", "size", f"{_kept(path)}; printf x >>{path}", again, "size is")
    yield Fault(model, "one byte altered", "sha256", f"{_kept(path)}; {_flipped(path)}", again, "sha256 is")
    yield Fault(
        model, "altered, and looks untouched", UNSEEN, f"{_kept(path)}; {_flipped(path)}; touch -r {ASIDE}/it {path}", again, "sha256 is"
    )


def _of_release(release: Release) -> Iterator[Fault]:
    current, path = quote(release.current), quote(release.path)
    noted, binary = f"{path}/.paddock-release", f"{path}/bin/{release.targets[-1]}"
    another = f"{PurePosixPath(release.path).parent}/another"
    moved = f"cp -al {path} {another}; ln -sfnT {another} {current}"
    yield Fault(release, "another one serves", "current", moved, f"ln -sfnT {path} {current}; rm -rf {another}", "current is")
    yield Fault(release, "none serves", "current", f"rm {current}", f"ln -sfnT {path} {current}", "current is none")
    yield Fault(release, "of another fingerprint", "fingerprint", f"{_kept(noted)}; echo 0 >{noted}", _put_back(noted), "fingerprint is 0")
    yield Fault(release, "not there at all", "fingerprint", _away(path), _back(path), "fingerprint is none")
    altered = f"{_away(binary)}; cp -p {ASIDE}/it {binary}; {_flipped(binary)}; touch -r {ASIDE}/it {binary}"
    yield Fault(release, "a program altered", "fingerprint", altered, _back(binary), "its files are not as they were built")
    if release.manifest:
        exchanged = f"{_away(path)}; cp -a {ASIDE}/it {path}; {_flipped(binary)}; cd {path}"
        fitting = "find bin -type f -exec sha256sum {} + | sort -k 2 >MANIFEST; touch .paddock-release"
        says = "its list of files has the sha256 "
        yield Fault(release, "a program altered, and its list of files", "manifest", f"{exchanged}; {fitting}", _back(path), says)
        more = f"{path}/bin/libggml-more.so"  # llama.cpp loads what is called so (ggml/src/ggml-backend-reg.cpp)
        yield Fault(release, "a library more", UNSEEN, f"touch {more}", f"rm {more}", "its list of files does not have bin/libggml-more.so")
    yield Fault(release, "a program missing", "fingerprint", _away(binary), _back(binary), "its files are not as they were built")


def _of_releases(releases: Releases) -> Iterator[Fault]:
    path, numbers = quote(releases.path), " ".join(map(str, range(releases.most + 1)))
    made = f"for each in {numbers}; do mkdir -p {path}/1-more$each; done"
    says = f"more than {releases.most} releases lie there"
    yield Fault(releases, "more than are kept", "spare", made, f"rm -rf {path}/1-more*", says)
    yield Fault(releases, "gone", "type", _away(path), _back(path), f"{releases.path} is no directory")


def _of_volume(volume: Volume) -> Iterator[Fault]:
    """What uses it goes with it, and is started again by hand."""
    users = f"docker ps --all --quiet --filter volume={volume.name}"
    again = "for each in /etc/paddock/stacks/*/compose.yml; do docker compose --file $each up --detach --wait 2>/dev/null; done"
    cause = f"docker rm --force $({users}) >/dev/null; docker volume rm {volume.name} >/dev/null"
    yield Fault(volume, "removed", "state", cause, f"docker volume create {volume.name} >/dev/null; {again}", "volume is none")


def _of_stack(stack: Stack) -> Iterator[Fault]:
    first = stack.containers[0].name if stack.containers else "an.example"
    compose = f"docker compose --project-name {stack.project}"
    files = f"{compose} --file {stack.directory}/compose.yml"
    up, label = f"{files} up --detach --wait 2>/dev/null", "com.docker.compose"
    image = stack.containers[0].image if stack.containers else "an.example"
    labels = f"--label {label}.project={stack.project} --label {label}.service=more"
    more = f"docker run --detach --name paddock-fault {labels} {image} sleep 600 >/dev/null"
    yield Fault(stack, "a container stopped", first, f"{compose} stop {first} 2>/dev/null", up, "containers is")
    yield Fault(stack, "a container removed", first, f"{files} rm --force --stop {first} 2>/dev/null", up, "containers is")
    yield Fault(stack, "a container more", "others", more, "docker rm --force paddock-fault >/dev/null", "containers is")
    older = f"sed -i 's/paddock.declared: .*/paddock.declared: older/' {ASIDE}/it/compose.yml"
    moved = f"mkdir -p {ASIDE}; cp -a {stack.directory} {ASIDE}/it; {older}"
    made = f"{compose} --project-directory {stack.directory} --file {ASIDE}/it/compose.yml up --detach --wait 2>/dev/null"
    attribute = f"{first} made of"
    yield Fault(stack, "made of something else", attribute, f"{moved}; {made}", f"{up}; rm -rf {ASIDE}/it", "containers is")


def _of_venv(venv: Venv) -> Iterator[Fault]:
    """The environment is put away whole, and comes back so."""
    made, current = f'"$(readlink -f {quote(venv.current)})"', quote(venv.current)
    copied, back = f"mkdir -p {ASIDE}; cp -a {made} {ASIDE}/it", f"it={made}; rm -rf $it; mv -T {ASIDE}/it $it"
    module = f"$(find {current}/lib/ -path '*/site-packages/*' -name '*.py' | sort | head -n 1)"
    says = "files: "
    yield Fault(venv, "none is used", "wheels", _away(current), _back(current), "there is no environment")
    yield Fault(venv, "a module altered", "files", f"{copied}; echo >>{module}", back, says)
    yield Fault(venv, "a module missing", "files", f"{copied}; rm {module}", back, says)
    yield Fault(venv, "a module more", "files", f"touch {current}/lib/more.py", f"rm {current}/lib/more.py", says)
    yield Fault(venv, "everybody may write it", "files", f"chmod o+w {module}", f"chmod o-w {module}", says)


def _of_port(port: Port) -> Iterator[Fault]:
    unit, again = port.unit, _restarted(port.unit, port)
    loopback = all(address.startswith("127.") for address in port.addresses)
    wrong, name = ("0.0.0.0", "open to all") if loopback else ("127.0.0.1", "closed to others")
    if unit.endswith(".socket"):
        overridden = _overridden(unit, f"ListenStream={wrong}:{port.number}", "ListenStream", "Socket")
    else:
        overridden = _overridden(unit, f"ExecStart={_listener(port, wrong)}\nType=exec")
    stopped = f"systemctl stop {unit}"
    yield Fault(port, "nobody listens", "addresses", stopped, again, "addresses is none")
    yield Fault(
        port, name, "addresses", f"{overridden}; {_until_listening(port)}", f"{_not_overridden(unit)}; {again}", f"addresses is {wrong}"
    )
    foreign = f"{stopped}; systemd-run --quiet --unit={OTHER} {_listener(port, *port.addresses)}; {_until_listening(port)}"
    yield Fault(port, "another unit listens", "unit", foreign, f"systemctl stop {OTHER}; {again}", f"unit is {OTHER}")
    if loopback:
        address = "$(hostname -I | cut -d' ' -f1)"
        also = f"systemd-run --quiet --unit={OTHER} {_listener(port, address)}; {_until_listening(port, 2)}"
        yield Fault(port, "another unit opens it to the network", "addresses", also, f"systemctl stop {OTHER}", "addresses is")


def _of_service(service: Service) -> Iterator[Fault]:
    unit, again = service.name, _restarted(service.name, *service.ports)
    yield Fault(service, "stopped", "active", f"systemctl stop {unit}", again, "active is inactive")
    yield Fault(
        service,
        "not started at boot",
        "enabled",
        f"systemctl disable --quiet {unit}",
        f"systemctl enable --quiet {unit}",
        "enabled is disabled",
    )
    unread = f"mkdir -p {service.dropins}; printf '[Unit]\\n' >{service.dropins}/99-fault.conf"
    yield Fault(
        service, "its unit was changed behind systemd's back", "daemon-reload", unread, _not_overridden(unit), "daemon-reload is yes"
    )
    if service.reads:
        theirs = f"{unread}; systemctl daemon-reload"
        yield Fault(service, "a drop-in of somebody else's", "units", theirs, _not_overridden(unit), "units: nothing declares")
    if service.is_trigger:  # which runs no program of its own
        return
    yield from _of_stamps(service)
    if service.section == "Socket":  # nor does a socket unit
        return
    steered = f"systemctl set-environment LLAMA_ARG_N_PREDICT=5; {again}"
    own = f"systemctl unset-environment LLAMA_ARG_N_PREDICT; {again}"
    yield Fault(service, "a variable of systemd's manager", "environment", steered, own, "environment: its unit does not set")
    yield Fault(service, "it died, and was started again", "restarts", _killed(service), again, "restarts: systemd had to start it")
    if service.in_force:
        yield Fault(service, "flushed", "in force", "nft flush ruleset", again, "in force: ")
    if service.left_open:
        yield Fault(service, "somebody left", "left open", f"echo somebody >>/run/paddock/{unit}.admitted", again, "left open: ")
    crashes = _overridden(unit, "Type=exec\nRestart=no\nExecStart=/bin/false")
    yield Fault(service, "does not come up", "active", f"{crashes}; sleep 0.2", f"{_not_overridden(unit)}; {again}", "active is failed")
    upgraded = f"exe=$(readlink /proc/$(systemctl show -P MainPID {unit})/exe); cp -p $exe $exe.new; mv $exe.new $exe"
    yield Fault(service, "started before its program was replaced", "program", upgraded, again, "program: ")


def _of_stamps(service: Service) -> Iterator[Fault]:
    """What was noted when it was started, and when it read what a reload reads."""
    unit, again = service.name, _restarted(service.name, *service.ports)
    stamp, running = service.stamp.path, f"$(systemctl show -P InvocationID {unit})"
    for what, digest in (("started", service.started), ("loaded", service.loaded)):
        note = f"/run/paddock/{unit}.{what}"
        mend = f"ln -sfn {running}:{digest} {note}"
        yield Fault(service, f"{what} with an older declaration", what, f"ln -sfn {running}:{'0' * 16} {note}", mend, f"{what}: ")
        yield Fault(service, f"{what} by a run that nothing is known of", what, f"ln -sfn {'0' * 32}:{digest} {note}", mend, f"{what}: ")
        yield Fault(service, f"{what}, and nothing was noted", what, f"rm {note}", mend, f"{what}: ")
        older = f"{_kept(stamp)}; sed -i -E 's/:[0-9a-f]{{16}} (.*[.]{what})$/:{'0' * 16} \\1/' {stamp}; systemctl daemon-reload; {again}"
        older = f"{older}; {_put_back(stamp)}; systemctl daemon-reload"
        yield Fault(service, f"{what} before its inputs were changed", what, older, again, f"{what}: ")


# What faults are made of. Paths come quoted.


def _away(path: str) -> str:
    return f"mkdir -p {ASIDE}; mv -T {path} {ASIDE}/it"


def _back(path: str) -> str:
    return f"rm -rf {path}; mv -T {ASIDE}/it {path}"


def _kept(path: str) -> str:
    return f"mkdir -p {ASIDE}; cp -a {path} {ASIDE}/it"


def _put_back(path: str) -> str:
    return f"cp -a {ASIDE}/it {path}.put; mv -T {path}.put {path}"


def _same_size(path: str) -> str:
    """Another last byte; size and time stay."""
    return f"{_flipped(path)}; touch -r {ASIDE}/it {path}"


def _flipped(path: str) -> str:
    """Its last byte becomes a 7: a bell, which ends no text, no model of random weights and no table of a program's sections."""
    return f"printf '\\007' | dd of={path} bs=1 seek=$(($(stat -c %s {path}) - 1)) conv=notrunc status=none"


def _overridden(unit: str, lines: str, instead: str = "ExecStart", section: str = "Service") -> str:
    """The unit does something else, and is told so."""
    at = f"/etc/systemd/system/{unit}.d"
    text = quote(f"[{section}]\n{instead}=\n{lines}\n")
    return f"printf %s {text} >{at}/99-fault.conf; systemctl daemon-reload; systemctl reset-failed {unit}; systemctl restart {unit} || true"


def _not_overridden(unit: str) -> str:
    return f"rm /etc/systemd/system/{unit}.d/99-fault.conf; systemctl daemon-reload"


def _killed(service: Service) -> str:
    """Its process is killed, and systemd starts another: also where its unit asks for no restart."""
    unit = service.name
    restarts = f"mkdir -p {service.dropins}; printf '[Service]\\nRestart=always\\nRestartSec=0.1\\n' >{service.dropins}/99-fault.conf"
    again = f'for try in $(seq 200); do [ "$(systemctl show -P NRestarts {unit})" = 0 ] || break; sleep 0.05; done'
    kill = f"systemctl daemon-reload; systemctl reset-failed {unit}; systemctl kill --kill-whom=main -s KILL {unit}; {again}"
    up = f"for try in $(seq 200); do ! systemctl is-active --quiet {unit} || break; sleep 0.05; done"
    return "; ".join([restarts, kill, up, *map(_until_listening, service.ports), _not_overridden(unit)])


def _restarted(unit: str, *ports: Port) -> str:
    """It runs and listens again, also after more starts in ten seconds than systemd allows. A socket does not come up while its service
    is at work, or between two starts.
    """
    if unit.endswith(".socket"):
        service = f"{unit.removesuffix('.socket')}.service"
        stop, both = f"systemctl stop {service} {unit}", f"{unit} {service}"
        again = f"systemctl reset-failed {both} 2>/dev/null || true; systemctl start {both}"
        return "; ".join([stop, again, *map(_until_listening, ports)])
    return "; ".join([f"systemctl reset-failed {unit} 2>/dev/null || true; systemctl restart {unit}", *map(_until_listening, ports)])


def _listener(port: Port, *addresses: str) -> str:
    listens = " ".join(f"-l {'[::]' if address == '*' else address}:{port.number}" for address in addresses)
    return f"/usr/bin/systemd-socket-activate {'-d ' if port.protocol == 'udp' else ''}{listens} /bin/cat"


def _until_listening(port: Port, sockets: int = 1) -> str:
    listed = f"ss -Hln --{port.protocol} 'sport = :{port.number}'"
    return f"for try in $(seq 200); do [ $({listed} | wc -l) -lt {sockets} ] || break; sleep 0.05; done"
