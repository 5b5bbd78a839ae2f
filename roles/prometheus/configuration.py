"""Prometheus' own files, made and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import yaml

from roles.metrics import ALERTMANAGER
from roles.prometheus.rules import document
from roles.prometheus.settings import PrometheusSettings
from roles.prometheus.targets import Target

DIRECTORY = "/etc/paddock/prometheus"
CONFIGURATION = f"{DIRECTORY}/prometheus.yml"
RULES = f"{DIRECTORY}/rules.yml"
KEYS = f"{DIRECTORY}/keys"

TIMEOUT_S = 10
"""What a reading may take, where readings are no closer than that."""


def configuration(fleet: str, settings: PrometheusSettings, targets: Iterable[Target]) -> str:
    """A pool of targets for each job and key."""
    interval, timeout = f"{settings.scrape_interval_s}s", f"{min(TIMEOUT_S, settings.scrape_interval_s)}s"
    in_order = sorted(targets, key=_pool)
    told = [each.at for each in in_order if each.job == ALERTMANAGER]
    said = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": timeout,
            "evaluation_interval": interval,
            "external_labels": {"fleet": fleet},
        },
        **({"alerting": {"alertmanagers": [{"follow_redirects": False, "static_configs": [{"targets": told}]}]}} if told else {}),
        "rule_files": [RULES],
        "scrape_configs": [_scraped(*pool, tuple(each)) for pool, each in groupby(in_order, _pool)],
    }
    return _written(said)


def rules(settings: PrometheusSettings, targets: Iterable[Target]) -> str:
    return _written(document({each.job for each in targets}, settings))


def key_file(key_name: str) -> str:
    return f"{KEYS}/{key_name}"


def declared_targets(text: str) -> list[Mapping[str, str]]:
    """The labels of all targets of a configuration."""
    pools = yaml.safe_load(text)["scrape_configs"]
    return [each["labels"] for pool in pools for each in pool["static_configs"]]


def declared_alerts(text: str) -> list[str]:
    """The names of all alerts of a file of rules."""
    return [each["alert"] for group in yaml.safe_load(text)["groups"] for each in group["rules"]]


def declared_alertmanagers(text: str) -> list[str]:
    """`ADDRESS:PORT` of all to which a configuration sends alerts."""
    said = yaml.safe_load(text).get("alerting", {"alertmanagers": []})
    return [at for each in said["alertmanagers"] for pool in each["static_configs"] for at in pool["targets"]]


def _pool(target: Target) -> tuple[str, str]:
    return target.job, target.key_name


def _scraped(job: str, key_name: str, targets: tuple[Target, ...]) -> dict[str, Any]:
    key = {"authorization": {"credentials_file": key_file(key_name)}} if key_name else {}
    found = [{"targets": [each.at], "labels": each.labels} for each in targets]
    # Nothing answers with a way to elsewhere, and a key is for nobody else.
    return {"job_name": f"{job} with {key_name}" if key_name else job, "follow_redirects": False, **key, "static_configs": found}


def _written(said: Mapping[str, Any]) -> str:
    return "# Written by Paddock.\n" + yaml.safe_dump(said, sort_keys=False, width=120, allow_unicode=True)
