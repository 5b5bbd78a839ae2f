"""Debian's node exporter: the collectors that the fleet's rules and pages use, and files that other programs leave for it."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.metrics import listed_by_go
from roles.node_exporter import models
from roles.node_exporter.settings import UNIT, NodeExporterSettings
from roles.role import is_loopback, port_of, render

PACKAGE = "prometheus-node-exporter"
DROPINS = f"/etc/systemd/system/{UNIT}.d"
TEXTFILES = "/var/lib/paddock/metrics"
"""Whoever may write here, root alone, has `*.prom` files read as metrics of the host."""

COLLECTORS = (
    *("cpu", "cpufreq", "loadavg", "pressure", "stat"),
    *("meminfo", "vmstat", "edac"),
    *("diskstats", "filesystem", "netdev"),
    *("hwmon", "thermal_zone"),
    *("time", "timex", "uname", "textfile", "systemd"),
)
"""Of the more than 40 that there are, those that tell something of a host of models."""

UNITS = r"(paddock-.*|llama-server.*|caddy|docker|postgresql@.*|prometheus.*)\.service"
"""The units whose state is told: those that Paddock brings."""

PSEUDO = "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc"
PSEUDO += "|procfs|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tmpfs|tracefs"
"""File systems that nobody stores anything on."""


def plan(host: Host, settings: NodeExporterSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    package = Package(PACKAGE)
    dropin = File(
        f"{DROPINS}/40-paddock.conf",
        render(
            "node_exporter/40-paddock.conf.j2",
            listen=settings.listen,
            collectors=COLLECTORS,
            textfiles=TEXTFILES,
            pseudo=f"^({PSEUDO})$",
            units=UNITS,
        ),
    )
    yield Package("dbus")  # by which systemd tells of its units
    yield package
    yield User("prometheus", "/var/lib/prometheus")  # as the package makes it, which would leave it behind
    yield Directory("/var/lib/paddock")
    yield Directory(TEXTFILES)
    yield from models.resources(host.name, fleet, knowledge, TEXTFILES)
    yield Directory(DROPINS)
    yield dropin
    port = Port(port_of(settings.listen), (listed_by_go(settings.listen),), UNIT, reachable_from=fleet.watchers(host.name))
    yield Service(UNIT, restarts=(package, dropin), ports=(port,))


def remarks(host: Host, settings: NodeExporterSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    guarded = any(each.guards_ports for each in host.carried.values())
    if not is_loopback(settings.listen) and not guarded:
        yield f"hosts.{host.name}.roles.node_exporter: everybody who reaches {settings.listen} reads its metrics: add the role firewall"
