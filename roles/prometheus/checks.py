"""What shows that Prometheus answers, has the fleet's rules, and reads all that it is to read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from inventory.fleet import Fleet, Host
from resources import File, Resource
from roles.prometheus.configuration import CONFIGURATION, RULES, TIMEOUT_S, declared_alertmanagers, declared_alerts, declared_targets
from roles.prometheus.settings import PrometheusSettings

BESIDE_S = 20
"""Beside the time from one reading to the next, and what a reading may take."""


def check_it_runs_the_declared_rules(
    host: TestinfraHost, this: Host, settings: PrometheusSettings, fleet: Fleet, plan: Iterable[Resource]
) -> None:
    said = _asked(host, this, settings, fleet, "rules?type=alert")
    has = {each["name"]: each for group in said["groups"] for each in group["rules"]}
    missing = [name for name in declared_alerts(_text(plan, RULES)) if name not in has]
    assert not missing, f"it has not loaded {', '.join(missing)}"
    failing = [f"{name}: {each['lastError']}" for name, each in has.items() if each["health"] == "err"]
    assert not failing, failing[0]


def check_it_sends_alerts_where_it_is_to(
    host: TestinfraHost, this: Host, settings: PrometheusSettings, fleet: Fleet, plan: Iterable[Resource]
) -> None:
    """Within some seconds: it takes them over after the rest of its configuration."""
    declared = {f"http://{at}/api/v2/alerts": at for at in declared_alertmanagers(_text(plan, CONFIGURATION))}

    def missing() -> list[str]:
        has = {each["url"] for each in _asked(host, this, settings, fleet, "alertmanagers")["activeAlertmanagers"]}
        return [at for url, at in declared.items() if url not in has]

    until = time.monotonic() + BESIDE_S
    while (lacking := missing()) and time.monotonic() < until:
        time.sleep(1)
    assert not lacking, f"it sends no alerts to {', '.join(lacking)}"


def check_every_target_is_up(host: TestinfraHost, this: Host, settings: PrometheusSettings, fleet: Fleet, plan: Iterable[Resource]) -> None:
    """By a reading that is newer than this check: what has just stopped was up in the one before."""
    declared = {_name(each) for each in declared_targets(_text(plan, CONFIGURATION))}
    began = int(host.check_output("date +%s"))
    until = time.monotonic() + settings.scrape_interval_s + TIMEOUT_S + BESIDE_S
    while (down := _down(declared, began, _asked(host, this, settings, fleet, "targets?state=active"))) and time.monotonic() < until:
        time.sleep(1)
    assert not down, "; ".join(down)


def _down(declared: Iterable[str], began: int, said: Mapping[str, Any]) -> list[str]:
    """What is to be read and is not, each with the reason."""
    active = {_name(each["labels"]): each for each in said["activeTargets"]}
    found = []
    for name in sorted(declared):
        if not (each := active.get(name)):
            found.append(f"{name} is not among its targets")
        elif _seconds(each["lastScrape"]) < began:
            found.append(f"{name}: no reading of {each['scrapeUrl']} since this check began")
        elif each["health"] != "up":
            found.append(f"{name} is not up: {each['lastError']}")
    return found


def _seconds(moment: str) -> float:
    """`2026-12-01T06:00:00.123456789Z` → seconds since 1970, without their fraction"""
    return datetime.fromisoformat(re.sub(r"\.\d+", "", moment).replace("Z", "+00:00")).timestamp()


def _name(labels: Mapping[str, str]) -> str:
    return f"{labels['host']}/{labels['service']}"


def _text(plan: Iterable[Resource], path: str) -> str:
    (file,) = (each for each in plan if isinstance(each, File) and each.path == path)
    return file.data.decode()


def _asked(host: TestinfraHost, this: Host, settings: PrometheusSettings, fleet: Fleet, what: str) -> Any:
    at = fleet.reach(settings.listen, "", this.name, this.name)
    said = host.run("curl -sSf --max-time 30 %s", f"http://{at}/api/v1/{what}")
    assert said.rc == 0, f"it does not answer: {said.stderr.strip()}"
    return from_json(said.stdout)["data"]
