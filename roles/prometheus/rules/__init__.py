"""What the fleet is told of: alert rules as data, a module for each thing that they look at. Each has its paragraph in docs/alerts.md."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from roles.prometheus.rules import gateway, machine, servers, units, watching
from roles.prometheus.rules.rule import Rule
from roles.prometheus.settings import PrometheusSettings

RULES: tuple[Rule, ...] = (*machine.RULES, *units.RULES, *servers.RULES, *gateway.RULES, *watching.RULES)


def document(jobs: Collection[str], settings: PrometheusSettings) -> dict[str, Any]:
    """The file of rules, as Prometheus has it, for a fleet with these jobs."""
    limits = {"first_token_s": settings.first_token_s, "queue_wait_s": settings.queue_wait_s}
    return {"groups": [{"name": "paddock", "rules": [each.said(limits) for each in RULES if each.job in jobs]}]}
