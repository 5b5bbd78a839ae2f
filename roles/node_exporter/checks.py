"""What shows that the machine's metrics are served, and that what they are made of can be read."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from inventory.fleet import Fleet, Host
from resources import lines_of
from roles.node_exporter import models
from roles.node_exporter.models import told_of
from roles.node_exporter.plan import COLLECTORS, TEXTFILES
from roles.node_exporter.settings import NodeExporterSettings

SILENT = frozenset(("cpufreq", "edac", "hwmon", "pressure", "thermal_zone"))
"""Collectors that fail, or have nothing to say, where the machine lacks what they look at."""


def check_it_tells_of_models_that_must_not_be_asked(host: TestinfraHost, this: Host, fleet: Fleet) -> None:
    """What it says of them is of the last minute or so."""
    if not told_of(fleet, this.name):
        return
    path = f"{TEXTFILES}/{models.NAME}"
    look = f"[ -z \"$(find {path} -newermt '-{4 * models.EVERY_S} seconds' 2>/dev/null)\" ] || exit 0; sleep 1"
    fresh = f"for i in $(seq {models.EVERY_S}); do {look}; done; exit 1"
    assert host.run("sh -c %s", fresh).rc == 0, f"{path} is not there, or old: journalctl -u {models.UNIT}"


def check_every_collector_works(host: TestinfraHost, this: Host, settings: NodeExporterSettings, fleet: Fleet) -> None:
    at = fleet.reach(settings.listen, "", this.name, this.name)
    said = host.run("curl -sSf --max-time 15 http://%s/metrics", at)
    assert said.rc == 0, f"it does not answer: {said.stderr.strip()}"
    works = {line for line in lines_of(said.stdout) if line.startswith("node_scrape_collector_success{") and line.endswith(" 1")}
    failed = [each for each in COLLECTORS if each not in SILENT and f'node_scrape_collector_success{{collector="{each}"}} 1' not in works]
    assert not failed, f"nothing of {', '.join(failed)}: journalctl -u prometheus-node-exporter"
