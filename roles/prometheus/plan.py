"""The distribution's Prometheus, with a configuration and rules of its own, and the keys that it shows."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.metrics import listed_by_go
from roles.prometheus.configuration import CONFIGURATION, DIRECTORY, KEYS, RULES, configuration, key_file, rules
from roles.prometheus.settings import UNIT, PrometheusSettings
from roles.prometheus.targets import remarks as left_alone
from roles.prometheus.targets import targets, watched
from roles.role import is_loopback, port_of, render

ACCOUNT = "prometheus"
"""As the packages of Prometheus and of the node exporter make it."""

DROPINS = f"/etc/systemd/system/{UNIT}.d"
STATE = "paddock-prometheus"
"""Below /var/lib. Not where the package has its data: it deletes them when it leaves."""

VALIDATE = f"cd / && runuser -u {ACCOUNT} -- promtool check config {CONFIGURATION}"
"""The rules and the keys' files too, as the account that reads them."""


def plan(host: Host, settings: PrometheusSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    read = targets(host, settings, fleet, knowledge)
    package = Package("prometheus")
    keys = tuple(
        File(key_file(name), f"{knowledge.key(name)}\n", owner=ACCOUNT, group=ACCOUNT, mode=0o600, secret=True)
        for name in dict.fromkeys(each.key_name for each in read if each.key_name)
    )
    said = File(CONFIGURATION, configuration(fleet.name, settings, read))
    alerts = File(RULES, rules(settings, read))
    dropin = File(f"{DROPINS}/40-paddock.conf", render("prometheus/40-paddock.conf.j2", settings, configuration=CONFIGURATION, state=STATE))
    yield package
    yield User(ACCOUNT, "/var/lib/prometheus")  # as the package makes it, which would leave it behind
    yield Directory(f"/var/lib/{STATE}", data=True)
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield Directory(KEYS, group=ACCOUNT, mode=0o750, exclusive=True)
    yield from keys
    yield alerts
    yield said
    yield Directory(DROPINS)
    yield dropin
    at = fleet.reach(settings.listen, f"hosts.{host.name}.roles.prometheus.listen", host.name, host.name)
    yield Service(
        UNIT,
        restarts=(package, dropin),
        reloads=(said, alerts, *keys),
        validate=(VALIDATE,),
        # It reads its journal first.
        answers=f"curl --silent --fail --max-time 5 http://{at}/-/ready",
        ports=(Port(port_of(settings.listen), (listed_by_go(settings.listen),), UNIT, reachable_from=()),),
    )


def remarks(host: Host, settings: PrometheusSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    where = f"hosts.{host.name}.roles.prometheus"
    if not is_loopback(settings.listen) and not any(each.guards_ports for each in host.carried.values()):
        yield f"{where}: everybody who reaches {settings.listen} reads all metrics: add the role firewall"
    yield from (f"{where}: {line}" for line in left_alone(watched(host, settings, fleet, knowledge)))
