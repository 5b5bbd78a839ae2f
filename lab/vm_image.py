"""The image of a virtual lab host: a kernel, an initrd, and a disk with what a container's image has and a machine needs beyond it."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.cache import alone, directory
from lab.engine import SBIN, LabError, as_root, installed, say
from lab.image import PACKAGES, RECIPE
from lab.mirror import KEYRING, SUITE, machine_apt_options, machine_sources
from lab.vm_hardware import VmHardware

DISK_SIZE = "16G"
"""What the host sees; the file has holes where nothing was written."""

FURTHER_PACKAGES = ("kmod", "udev")

MODULES = ("virtio_pci", "virtio_blk", "ext4")
"""All that an initrd needs here. One with every driver takes minutes to pack where that is emulated, and longer to unpack at each boot."""

MACHINE_RECIPE = Path(__file__).with_name("vm_image.sh")

BEFORE = f"""
set -e
mkdir -p etc/initramfs-tools/conf.d usr/share/initramfs-tools/modules.d etc/ssh
echo MODULES=list > etc/initramfs-tools/conf.d/paddock-lab
printf '%s\\n' {" ".join(MODULES)} > usr/share/initramfs-tools/modules.d/paddock-lab
touch etc/ssh/ssh_host_rsa_key etc/ssh/ssh_host_ecdsa_key etc/ssh/ssh_host_ed25519_key
"""
"""Before the packages: what they would otherwise do at length. Each host gets a key of its own, those of an image are thrown away."""

INSTALL = """
set -e
native="-o DPkg::Options::=--root=$1 -o DPkg::Options::=--force-depends"
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq -y --no-install-recommends $native install {packages}
chroot "$1" dpkg --configure --pending
chroot "$1" apt-get check
[ -z "$(chroot "$1" dpkg --audit)" ]
"""
"""apt and dpkg are this machine's own: only what a package runs by itself is emulated where that is foreign, which halves the time.

This dpkg takes packages for all architectures for its own architecture's, so theirs seem to depend on what is not there. The root's own has
the last word.
"""

INITRD = """
set -e
for kernel in "$1"/boot/vmlinuz-*; do
  version=${kernel##*/vmlinuz-}
  [ -e "$1/boot/initrd.img-$version" ] || chroot "$1" update-initramfs -c -k "$version"
done
"""
"""A kernel whose package was set up before initramfs-tools has none: what is deferred then only renews those that are there."""


def vm_image(hardware: VmHardware) -> Path:
    """The directory of the image, with `kernel`, `initrd` and `disk.ext4`, made where this machine's cache does not have it.

    Raises LabError where it cannot be made.
    """
    recipe = "\n".join([SUITE, DISK_SIZE, *PACKAGES, *FURTHER_PACKAGES, BEFORE, INSTALL, RECIPE.read_text(), MACHINE_RECIPE.read_text()])
    digest = hashlib.sha256(f"{hardware.kernel}\n{recipe}".encode()).hexdigest()[:12]
    image = directory() / f"vm-{hardware.architecture}-{digest}"
    with alone(directory() / f"vm-{hardware.architecture}.lock"):
        if not image.exists():
            _make(hardware, image)
    return image


def _make(hardware: VmHardware, image: Path) -> None:
    installed("mmdebstrap", "mmdebstrap")
    installed("mke2fs", "e2fsprogs")
    if not Path(KEYRING).exists():
        installed("debian-archive-keyring", "debian-archive-keyring")
    if not hardware.is_native:
        _emulated(hardware)
    sudo, begin = as_root("make the image of a virtual machine"), time.monotonic()
    part, log = image.with_suffix(".part"), image.with_suffix(".log")
    root, mirror = part / "root", next(source.uri for source in machine_sources() if source.suite == SUITE)
    takes = "a minute or two" if hardware.is_native else "some minutes, once: packages set themselves up in an emulator"
    say(f"lab: making the image of a virtual machine ({hardware.words}) from {mirror} ({takes}; log in {log})")
    log.unlink(missing_ok=True)
    remove = (*sudo, "rm", "-rf", "--one-file-system", "--")
    _run([*remove, str(part)], log)  # of one that ended halfway
    part.mkdir()
    try:
        _run([*sudo, *_bootstrap(hardware, root, mirror)], log)
        for name, found in {"kernel": "vmlinuz-*", "initrd": "initrd.img-*"}.items():
            newest = max((root / "boot").glob(found), default=None)
            if not newest:
                raise LabError(f"the image came out without boot/{found}: see {log}")
            _run([*sudo, "mv", str(newest), str(part / name)], log)
        # No mount: `-d` writes a directory's files into the new file system, with their owners.
        _run([*sudo, "mke2fs", "-q", "-t", "ext4", "-L", "paddock-lab", "-d", str(root), str(part / "disk.ext4"), DISK_SIZE], log)
        _run([*remove, str(root)], log)
        _run([*sudo, "chown", "-R", f"{os.getuid()}:{os.getgid()}", str(part)], log)
        part.rename(image)
    finally:
        _run([*remove, str(part)], log)
    log.unlink()
    say(f"lab: the image is made ({time.monotonic() - begin:.0f} s), and kept for the next time")


def _bootstrap(hardware: VmHardware, root: Path, mirror: str) -> tuple[str, ...]:
    packages = " ".join((*PACKAGES, *FURTHER_PACKAGES, hardware.kernel))
    hooks = [f'cd "$1" && {BEFORE}', INSTALL.format(packages=packages), INITRD]
    hooks += [f'chroot "$1" sh < {shlex.quote(str(recipe))}' for recipe in (RECIPE, MACHINE_RECIPE)]
    return (
        *("mmdebstrap", "--mode=root", "--variant=apt", f"--architectures={hardware.architecture}", f"--keyring={KEYRING}"),
        *(f"--aptopt={option}" for option in machine_apt_options()),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(SUITE, str(root), mirror),
    )


def _emulated(hardware: VmHardware) -> None:
    """Has this machine run the packages' own scripts, which are of another architecture."""
    installed("arch-test", "arch-test")
    if _runs(hardware):
        return
    installed(f"qemu-{hardware.machine}-static", "qemu-user-static")
    installed("update-binfmts", "binfmt-support")
    if not _runs(hardware):
        sudo, table = as_root("have the kernel run programs of another architecture"), Path("/proc/sys/fs/binfmt_misc")
        if not (table / "status").exists():
            say(f"lab: mounting binfmt_misc on {table}")
            subprocess.run([*sudo, "mount", "-t", "binfmt_misc", "binfmt_misc", str(table)], capture_output=True)
        say(f"lab: enabling the emulation of {hardware.architecture} (update-binfmts --enable qemu-{hardware.machine})")
        subprocess.run([*sudo, "update-binfmts", "--enable", f"qemu-{hardware.machine}"], capture_output=True)
    if not _runs(hardware):
        raise LabError(f"this kernel runs no {hardware.architecture} program, not even emulated: see `update-binfmts --display`")


def _runs(hardware: VmHardware) -> bool:
    return subprocess.run(["arch-test", hardware.architecture], capture_output=True).returncode == 0


def _run(command: Sequence[str], log: Path) -> None:
    """Raises LabError with the last lines of what the command said."""
    with log.open("a") as output:
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    if done.returncode:
        program = next(word for word in command if word not in ("sudo", "-n"))
        tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-8:])
        raise LabError(f"{program} failed: see {log}\n{tail}")
