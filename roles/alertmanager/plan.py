"""The distribution's Alertmanager, with a configuration of its own that holds what receivers ask for."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.alertmanager.configuration import CONFIGURATION, DIRECTORY, TEMPLATE, configuration
from roles.alertmanager.settings import UNIT, AlertmanagerSettings
from roles.metrics import listed_by_go
from roles.role import is_loopback, port_of, render

PACKAGE = "prometheus-alertmanager"
ACCOUNT = "prometheus"
"""As the packages of Prometheus make it."""

DROPINS = f"/etc/systemd/system/{UNIT}.d"
STATE = "paddock-alertmanager"
"""Below /var/lib: silences, and what was told. Not where the package has its data: it deletes them when it leaves."""

VALIDATE = f"cd / && runuser -u {ACCOUNT} -- amtool check-config {CONFIGURATION}"


def plan(host: Host, settings: AlertmanagerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    where = f"hosts.{host.name}.roles.alertmanager"
    package = Package(PACKAGE)
    text = configuration(settings, knowledge.secrets, where)
    said = File(CONFIGURATION, text, owner=ACCOUNT, group=ACCOUNT, mode=0o600, secret=any(settings.secret_values()))
    words = File(TEMPLATE, render("alertmanager/paddock.tmpl.j2"))
    dropin = File(
        f"{DROPINS}/40-paddock.conf", render("alertmanager/40-paddock.conf.j2", settings, configuration=CONFIGURATION, state=STATE)
    )
    yield package
    yield User(ACCOUNT, "/var/lib/prometheus")  # as the package makes it, which would leave it behind
    yield Directory(f"/var/lib/{STATE}", data=True)
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, group=ACCOUNT, mode=0o750, exclusive=True)
    yield words
    yield said
    yield Directory(DROPINS)
    yield dropin
    at = fleet.reach(settings.listen, f"{where}.listen", host.name, host.name)
    port = Port(port_of(settings.listen), (listed_by_go(settings.listen),), UNIT, reachable_from=fleet.watchers(host.name))
    yield Service(
        UNIT,
        restarts=(package, dropin),
        reloads=(said, words),
        validate=(VALIDATE,),
        answers=f"curl --silent --fail --max-time 5 http://{at}/-/ready",
        ports=(port,),
    )


def refusals(host: Host, settings: AlertmanagerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """The secrets that nobody has set yet."""
    for key, value in settings.secret_values():
        if words := value.missing(knowledge.secrets):
            yield f"hosts.{host.name}.roles.alertmanager.{key}: {words}"


def remarks(host: Host, settings: AlertmanagerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    where = f"hosts.{host.name}.roles.alertmanager"
    if not settings.receivers:
        yield f"{where}: it tells nobody: name receivers"
    if not fleet.watchers(host.name) and not any(each.watches(host.name) for each in host.carried.values()):
        yield f"{where}: no Prometheus of the inventory sends it alerts: add the role prometheus, or take this host out of its leave_out"
    if not is_loopback(settings.listen) and not any(each.guards_ports for each in host.carried.values()):
        yield f"{where}: everybody who reaches {settings.listen} may silence alerts: add the role firewall"
