"""The image of a lab host: Debian with systemd, sshd, and what a freshly installed server has."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cache import alone, directory
from lab.engine import Engine, LabError, as_root, installed, say
from lab.mirror import KEYRING, SUITE, machine_apt_options, machine_files, machine_sources

BASE = f"debian:{SUITE}"

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


def image(engine: Engine) -> str:
    """The name of the lab's image, `paddock-lab:<digest of its recipe>`, which is made where the engine does not have it.

    Its root comes from the machine's cache, else from the registry's Debian, else, where no registry answers, from the Debian mirror.
    """
    digest = hashlib.sha256("\n".join([SUITE, *PACKAGES, RECIPE.read_text()]).encode()).hexdigest()[:12]
    name = f"paddock-lab:{digest}"
    if engine.has_image(name):
        return name
    root = directory() / f"root-{digest}.tar"
    if not root.exists():
        part = root.with_suffix(f".{os.getpid()}.part")
        try:
            if not _from_registry(engine, part):
                _from_mirror(part)
            part.replace(root)
        finally:
            part.unlink(missing_ok=True)
    engine.run("import", str(root), name)
    return name


def with_packages(engine: Engine, packages: Sequence[str]) -> str:
    """The name of the lab's image with further packages installed and with apt's lists, which is made where the engine does not have it."""
    base = image(engine)
    digest = hashlib.sha256("\n".join([base, *packages, LISTS]).encode()).hexdigest()[:12]
    name = f"paddock-lab-more:{digest}"
    with alone(directory() / "image-more.lock"):
        if not engine.has_image(name):
            say(f"lab: making the image of a host with {', '.join(packages)}")
            shared = f"--volume={directory('apt')}:/var/cache/paddock/apt"
            container = engine.run("create", shared, "--add-host=host.docker.internal:host-gateway", base, "sleep", "infinity")
            try:
                engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files()))
                _prepare(engine, container, packages)
                engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files()))
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


def _from_registry(engine: Engine, root: Path) -> bool:
    """Writes the root from the registry's image of Debian; False where there is no registry to be had."""
    try:
        if not engine.has_image(BASE):
            engine.run("pull", BASE)
    except LabError:
        return False
    say(f"lab: making the image of a host from {BASE}")
    container = engine.run("create", "--add-host", "host.docker.internal:host-gateway", BASE, "sleep", "infinity")
    try:
        engine.run("cp", "-", f"{container}:/", stdin=archive(machine_files()))
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


def _from_mirror(root: Path) -> None:
    """Writes the root from the Debian mirror. Raises LabError with the last lines of the log."""
    installed("mmdebstrap", "mmdebstrap")
    if not Path(KEYRING).exists():
        installed("debian-archive-keyring", "debian-archive-keyring")
    mirror = next(source.uri for source in machine_sources() if source.suite == SUITE)
    say(f"lab: making the image of a host from {mirror} (no registry has {BASE}; this takes a minute)")
    command = [*as_root("make the image of a host"), "mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--aptopt={option}" for option in machine_apt_options()]
    command += [f"--keyring={KEYRING}", f'--customize-hook=chroot "$1" sh < {shlex.quote(str(RECIPE))}', SUITE, "-", mirror]
    with root.open("wb") as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        tail = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-8:])
        raise LabError(f"mmdebstrap made no image from {mirror}:\n{tail}")
