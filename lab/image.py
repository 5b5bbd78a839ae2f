"""The image of a lab host: Debian with systemd, sshd, and what a freshly installed server has."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cache import alone, directory
from lab.engine import Engine, LabError, as_root, installed, say
from lab.mirror import KEYRING, SUITE, machine_apt_options, machine_files, machine_sources

ROLLING = ("forky", "sid")
"""Suites whose packages are replaced all the time: their image is made anew every month."""

PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
)

RECIPE = Path(__file__).with_name("image.sh")
LISTS = "apt-get -qq update"


def image(engine: Engine, suite: str = SUITE) -> str:
    """The name of the lab's image of a suite, `paddock-lab:<digest of its recipe>`, which is made where the engine does not have it.

    Its root comes from the machine's cache, else from the registry's Debian, else, where no registry answers, from the Debian mirror.
    """
    made_of = f"{suite} {time.strftime('%Y-%m', time.gmtime())}" if suite in ROLLING else suite
    digest = hashlib.sha256("\n".join([made_of, *PACKAGES, RECIPE.read_text()]).encode()).hexdigest()[:12]
    name = f"paddock-lab:{digest}"
    if engine.has_image(name):
        return name
    root = directory() / f"root-{digest}.tar"
    if not root.exists():
        part = root.with_suffix(f".{os.getpid()}.part")
        try:
            if not _from_registry(engine, suite, part):
                _from_mirror(suite, part)
            part.replace(root)
        finally:
            part.unlink(missing_ok=True)
    engine.run("import", str(root), name)
    return name


def with_packages(engine: Engine, packages: Sequence[str], suite: str = SUITE) -> str:
    """The name of a suite's image with further packages installed and with apt's lists, which is made where the engine does not have it."""
    base = image(engine, suite)
    digest = hashlib.sha256("\n".join([base, *packages, LISTS]).encode()).hexdigest()[:12]
    name = f"paddock-lab-more:{digest}"
    with alone(directory() / "image-more.lock"):
        if not engine.has_image(name):
            say(f"lab: making the image of a host with {', '.join(packages)}")
            shared = f"--volume={directory('apt')}:/var/cache/paddock/apt"
            container = engine.run("create", shared, "--add-host=host.docker.internal:host-gateway", base, "sleep", "infinity")
            try:
                engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files(suite)))
                _prepare(engine, container, packages)
                engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files(suite)))
                engine.run("exec", container, "sh", "-c", LISTS)
                engine.run("commit", container, name)
            finally:
                engine.run("rm", "--force", container)
    return name


def archive(files: Mapping[str, str]) -> bytes:
    """A tar of these files, by absolute path: root's, and readable to all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(text.encode()), 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _from_registry(engine: Engine, suite: str, root: Path) -> bool:
    """Writes the root from the registry's image of Debian; False where there is no registry to be had."""
    base = f"debian:{suite}"
    try:
        if suite in ROLLING or not engine.has_image(base):
            engine.run("pull", base)
    except LabError:
        return False
    say(f"lab: making the image of a host from {base}")
    container = engine.run("create", "--add-host", "host.docker.internal:host-gateway", base, "sleep", "infinity")
    try:
        engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files(suite)))
        _prepare(engine, container, PACKAGES)
        engine.run("export", "--output", str(root), container)
    finally:
        engine.run("rm", "--force", container)
    return True


def _prepare(engine: Engine, container: str, packages: Sequence[str]) -> None:
    """Starts the container, installs the packages, and leaves nothing in it that belongs to one machine."""
    engine.run("start", container)
    install = f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends {' '.join(packages)}"
    engine.run("exec", container, "sh", "-c", install)
    engine.run("exec", "--interactive", container, "sh", stdin=RECIPE.read_bytes())


def _from_mirror(suite: str, root: Path) -> None:
    """Writes the root from the Debian mirror. Raises LabError with the last lines of the log."""
    installed("mmdebstrap", "mmdebstrap")
    if not Path(KEYRING).exists():
        installed("debian-archive-keyring", "debian-archive-keyring")
    mirror = next(source.uri for source in machine_sources(suite) if source.suite == suite)
    say(f"lab: making the image of a host from {mirror} (no registry has debian:{suite}; this takes a minute)")
    command = [*as_root("make the image of a host"), "mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--aptopt={option}" for option in machine_apt_options()]
    command += [f"--keyring={KEYRING}", f'--customize-hook=chroot "$1" sh < {shlex.quote(str(RECIPE))}', suite, "-", mirror]
    with root.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        tail = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-8:])
        raise LabError(f"mmdebstrap made no image from {mirror}:\n{tail}")
