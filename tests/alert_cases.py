"""A case for each alert in which it fires and one in which it does not, for `promtool test rules`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roles.prometheus.rules import RULES

GIB = 2**30


@dataclass(frozen=True)
class Case:
    """Readings a minute apart, as promtool writes them (`0x10` is ten more of 0): of `fires` the alert fires at the moment `at`,
    of `quiet` it does not. `labels` are those of the alert."""

    fires: Mapping[str, str]
    quiet: Mapping[str, str]
    at: str
    labels: Mapping[str, str]
    value: str = ""
    """As its summary has it."""


HOST = {"host": "far", "job": "node_exporter", "service": "node_exporter"}
PROMETHEUS = {"host": "box", "job": "prometheus", "service": "prometheus"}
DISK = {**HOST, "mountpoint": "/srv"}


def series(name: str, labels: Mapping[str, str]) -> str:
    said = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{said}}}"


def _disk(free: str) -> Mapping[str, str]:
    said = {"avail_bytes": free, "size_bytes": f"{100 * GIB}x900", "readonly": "0x900"}
    return {series(f"node_filesystem_{name}", DISK): values for name, values in said.items()}


def _of_host(name: str, values: str) -> Mapping[str, str]:
    return {series(name, HOST): values}


def _memory(available: int) -> Mapping[str, str]:
    said = {"MemAvailable": available * GIB, "MemTotal": 100 * GIB}
    return {series(f"node_memory_{name}_bytes", HOST): f"{value}x30" for name, value in said.items()}


GATEWAY = {"host": "far", "job": "gateway", "service": "gateway"}
SERVER = {"host": "box", "job": "llama_server", "service": "chat", "model": "small"}

CASES: Mapping[str, Case] = {
    "HostDown": Case(_of_host("up", "1 0x9"), _of_host("up", "1x4 0 1x4"), "5m", HOST),
    "ServiceDown": Case({series("up", GATEWAY): "0x9"}, {series("up", GATEWAY): "1x9", series("up", SERVER): "0x9"}, "5m", GATEWAY),
    "ModelServerDown": Case({series("up", SERVER): "0x30"}, {series("up", SERVER): "0x6 1x24"}, "15m", SERVER),
    "DiskNearlyFull": Case(_disk(f"{7 * GIB}x900"), _disk(f"{9 * GIB}x900"), "15m", DISK, "7%"),
    "DiskFills": Case(_disk(f"{29 * GIB}-{GIB // 60}x900"), _disk(f"{29 * GIB}-{GIB // 600}x900"), "8h", DISK),
    "MemoryLow": Case(_memory(4), _memory(6), "15m", HOST, "4%"),
    "OutOfMemory": Case(_of_host("node_vmstat_oom_kill", "0x4 1x9"), _of_host("node_vmstat_oom_kill", "7x13"), "8m", HOST),
    "ClockOff": Case(_of_host("node_time_seconds", "-10+60x30"), _of_host("node_time_seconds", "1+60x30"), "15m", HOST, "10s"),
    "ClockNotSynchronized": Case(
        _of_host("node_timex_sync_status", "0x90"), _of_host("node_timex_sync_status", "0x30 1 0x50"), "80m", HOST
    ),
    "ConfigurationRefused": Case(
        {series("prometheus_config_last_reload_successful", PROMETHEUS): "0x20"},
        {series("prometheus_config_last_reload_successful", PROMETHEUS): "1x20"},
        "10m",
        PROMETHEUS,
    ),
}


def document(rules: str) -> dict[str, Any]:
    """What `promtool test rules` reads, for the file of rules at that path."""
    tests = []
    for rule in RULES:
        case = CASES[rule.name]
        said = {"summary": rule.summary, "what_to_do": rule.what_to_do, "page": rule.page}
        alert = {
            "exp_labels": {**case.labels, "severity": rule.severity},
            "exp_annotations": {name: _filled(text, case) for name, text in said.items()},
        }
        for given, expected in ((case.fires, [alert]), (case.quiet, [])):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": each, "values": values} for each, values in given.items()],
                    "alert_rule_test": [{"eval_time": case.at, "alertname": rule.name, "exp_alerts": expected}],
                }
            )
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}


def _filled(text: str, case: Case) -> str:
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: case.labels[found[1]], text)
    return re.sub(r"{{ \$value \| \w+ }}", case.value, text)
