"""One lab host: a container in which systemd runs as on a machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

from inventory.fleet import Host
from lab.cache import directory, ssh_key, ssh_public_key
from lab.engine import Engine, LabError
from lab.image import archive
from lab.lab_host import ADMIT, TERMINAL_CONTROL, LabHost, accounts, sshd_answers
from lab.mirror import SUITE, machine_files

CAPABILITIES = (
    "SYS_ADMIN",
    "NET_ADMIN",
    "SYS_PTRACE",
    "SYS_NICE",
    "IPC_LOCK",
    "SYS_TIME",
    "MKNOD",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "SYSLOG",
)
"""What systemd and its services use. `--privileged` asks for more than some machines have to give."""

SYS_RESOURCE = 24
"""The number of the capability by which systemd raises limits: LimitMEMLOCK=, LimitRTPRIO= (linux/capability.h)."""

SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "1024"}
"""What an engine sets otherwise than a machine has it: it lets everybody open every port."""

BOOT = """
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
shared=/var/cache/paddock/ccache
[ -e $shared/ccache.conf ] || { chmod -R a+rwX $shared; echo 'umask = 000' >$shared/ccache.conf; }
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec /lib/systemd/systemd
"""
"""A cgroup tree of the host's own: the machine's, mounted whole, could be rewritten from inside. And what all hosts have compiled is each
one's to add to: the accounts that compile have other numbers on other hosts."""

FILES = {"/etc/dpkg/dpkg.cfg.d/paddock-lab": "force-unsafe-io\n"}
"""A lab host need not outlive a power cut: dpkg waits for no disk."""

BOOT_TIMEOUT_S = 90
CONSOLE_LINES = 8


def containers(engine: Engine, fleet: str | None = None) -> Iterator[LabHost]:
    """The lab's hosts, of one fleet or of all, in the order of their names."""
    label = f"label=paddock.fleet={fleet}" if fleet else "label=paddock.fleet"
    ids = engine.run("ps", "--all", "--quiet", "--filter", label).split()
    found = json.loads(engine.run("inspect", *ids)) if ids else []
    for each in sorted(found, key=lambda each: str(each["Name"])):
        labels, state, network = each["Config"]["Labels"], each["State"]["Status"], each["NetworkSettings"]["Networks"]["bridge"]
        running = state == "running"
        container, suite = each["Name"].lstrip("/"), labels.get("paddock.suite", SUITE)
        yield LabHost(
            fleet=labels["paddock.fleet"],
            name=labels["paddock.host"],
            container=container,
            state=state,
            user=labels["paddock.user"],
            ssh_key=ssh_key(),
            address=network["IPAddress"] if running else "",
            network=str(ip_interface(f"{network['IPAddress']}/{network['IPPrefixLen']}").network) if running else "",
            host_key=_host_key(engine, container) if running else "",
            kind="container" if suite == SUITE else f"container ({suite})",
            suite=suite,
        )


def create(engine: Engine, fleet: str, host: str, user: str, image: str, suite: str) -> str:
    """Makes a host's container from an image of the suite, not yet started, and gives its name."""
    name = f"paddock-{fleet}-{host}"
    engine.run(
        *("create", "--name", name, "--hostname", host, "--tty"),  # the terminal is systemd's console: `docker logs` shows the boot
        *(f"--label=paddock.{key}={value}" for key, value in {"fleet": fleet, "host": host, "user": user, "suite": suite}.items()),
        *("--network", "bridge", "--cgroupns", "private"),
        *(f"--cap-add={capability}" for capability in capabilities()),
        *(f"--sysctl={name}={value}" for name, value in SYSCTLS.items()),
        *(f"--security-opt={option}=unconfined" for option in ("seccomp", "apparmor", "systempaths")),
        *(f"--tmpfs={path}" for path in ("/run", "/run/lock", "/tmp")),
        "--env=container=docker",
        "--add-host=host.docker.internal:host-gateway",
        # Volumes without a name go when the container goes. An engine in the host cannot lay its overlays over an overlay.
        *("--volume=/var/lib/docker", "--volume=/var/lib/containerd"),
        *(f"--volume={directory(cache)}:/var/cache/paddock/{cache}" for cache in ("apt", "ccache")),
        *(image, "sh", "-c", BOOT),
    )
    try:
        engine.run("cp", "-", f"{name}:/", stdin=archive({**machine_files(suite), **FILES}))
    except LabError:
        engine.run("rm", "--force", "--volumes", name)
        raise
    return name


def capabilities(status: Path = Path("/proc/self/status")) -> tuple[str, ...]:
    """Those that a lab host gets: SYS_RESOURCE too, where this machine has it to give."""
    bounding = next(line for line in status.read_text().splitlines() if line.startswith("CapBnd:"))
    return (*CAPABILITIES, "SYS_RESOURCE") if int(bounding.split()[1], 16) >> SYS_RESOURCE & 1 else CAPABILITIES


def boot(engine: Engine, container: str, host: Host) -> str:
    """Starts the container, lets the lab's key in, waits for systemd and sshd, and gives systemd's state, with the units that failed.

    Raises LabError with the console's last lines where the host does not come up.
    """
    engine.run("start", container)
    try:
        engine.run("exec", "--interactive", container, "sh", "-s", "--", host.user, ssh_public_key(), *accounts(host), stdin=ADMIT.encode())
    except LabError as error:
        raise _did_not_come_up(engine, container, str(error)) from None
    deadline, state = time.monotonic() + BOOT_TIMEOUT_S, "starting"
    while time.monotonic() < deadline and (address := address_of(engine, container)):  # a container that has ended has none
        try:
            # It leaves with 1 for every state but `running`.
            state = engine.run("exec", container, "sh", "-c", "systemctl is-system-running 2>&1 || true")
            if state in ("running", "degraded") and sshd_answers(address):
                return _with_failed_units(engine, container, state)
        except LabError as error:
            state = str(error)
        time.sleep(0.3)
    raise _did_not_come_up(engine, container, state)


def _with_failed_units(engine: Engine, container: str, state: str) -> str:
    failed = engine.run("exec", container, "systemctl", "--failed", "--plain", "--no-legend").splitlines()
    return f"{state} ({', '.join(line.split()[0] for line in failed)} failed)" if failed else state


def _did_not_come_up(engine: Engine, container: str, state: str) -> LabError:
    console = TERMINAL_CONTROL.sub("", engine.run("logs", "--tail", str(CONSOLE_LINES), container))
    tail = "\n".join(f"  {line}" for line in console.splitlines() if line.strip())
    return LabError(f"did not come up ({state}); the console's last lines:\n{tail}")


def address_of(engine: Engine, container: str) -> str:
    """The container's address, or nothing where it does not run."""
    return engine.run("inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container)


def _host_key(engine: Engine, container: str) -> str:
    """Read through the engine, not over the network: this is what there is to pin."""
    try:
        public = engine.run("exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
    except LabError:  # it is just starting, or just ending
        return ""
    return " ".join(public.split()[:2])
