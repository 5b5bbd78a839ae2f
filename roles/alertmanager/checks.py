"""What shows that Alertmanager answers, and has the configuration that the inventory makes."""

from __future__ import annotations

from typing import Any

import yaml
from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from inventory.fleet import Fleet, Host
from roles.alertmanager.configuration import configuration
from roles.alertmanager.settings import AlertmanagerSettings


def check_it_has_the_declared_receivers(host: TestinfraHost, this: Host, settings: AlertmanagerSettings, fleet: Fleet) -> None:
    """By name and route: it does not show what secrets are in them."""
    at = fleet.reach(settings.listen, "", this.name, this.name)
    said = host.run("curl -sSf --max-time 30 %s", f"http://{at}/api/v2/status")
    assert said.rc == 0, f"it does not answer: {said.stderr.strip()}"
    has, wanted = (yaml.safe_load(text) for text in (from_json(said.stdout)["config"]["original"], configuration(settings, {}, "")))
    missing = sorted(_names(wanted) - _names(has))
    assert not missing, f"it has not loaded {', '.join(missing)}"
    assert _routes(has) == _routes(wanted), "it has loaded other routes than the inventory makes"


def _names(said: dict[str, Any]) -> set[str]:
    return {each["name"] for each in said["receivers"]}


def _routes(said: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(each["receiver"], each["matchers"]) for each in said["route"]["routes"]]
