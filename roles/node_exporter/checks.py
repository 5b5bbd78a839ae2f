"""What shows that the machine's metrics are served, and that what they are made of can be read."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from inventory.fleet import Fleet, Host
from resources import lines_of
from roles.node_exporter.plan import COLLECTORS
from roles.node_exporter.settings import NodeExporterSettings

SILENT = frozenset(("cpufreq", "edac", "hwmon", "pressure", "thermal_zone"))
"""Collectors that fail, or have nothing to say, where the machine lacks what they look at."""


def check_every_collector_works(host: TestinfraHost, this: Host, settings: NodeExporterSettings, fleet: Fleet) -> None:
    at = fleet.reach(settings.listen, "", this.name, this.name)
    said = host.run("curl -sSf --max-time 15 http://%s/metrics", at)
    assert said.rc == 0, f"it does not answer: {said.stderr.strip()}"
    works = {line for line in lines_of(said.stdout) if line.startswith("node_scrape_collector_success{") and line.endswith(" 1")}
    failed = [each for each in COLLECTORS if each not in SILENT and f'node_scrape_collector_success{{collector="{each}"}} 1' not in works]
    assert not failed, f"nothing of {', '.join(failed)}: journalctl -u prometheus-node-exporter"
