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


def _failed(unit: str, values: str) -> Mapping[str, str]:
    return {series("node_systemd_unit_state", {**HOST, "name": unit, "state": "failed", "type": "oneshot"}): values}


def _sensor(degrees: int, critical: float) -> Mapping[str, str]:
    said = {"temp_celsius": degrees, "temp_crit_celsius": critical}
    return {series(f"node_hwmon_{name}", {**HOST, **SENSOR}): f"{value}x20" for name, value in said.items()}


def _waits(histogram: str, le: str) -> Mapping[str, str]:
    """All of 60 requests a minute in the bucket up to `le`, of three."""
    bounds = ("10", "60", "+Inf")
    of = {**GATEWAY, "model": "small"}
    return {
        series(f"paddock_gateway_{histogram}_bucket", {**of, "le": each}): f"0+{60 if bounds.index(each) >= bounds.index(le) else 0}x40"
        for each in bounds
    }


def _of_zone(kind: str, degrees: int) -> Mapping[str, str]:
    return {series("node_thermal_zone_temp", {**HOST, "type": kind, "zone": "0"}): f"{degrees}x20"}


def _unsaid(degrees: int) -> Mapping[str, str]:
    """A sensor whose limit is none."""
    said = {"temp_celsius": str(degrees), "temp_crit_celsius": "0"}
    return {series(f"node_hwmon_{name}", {**HOST, "chip": "nvme", "sensor": "temp1"}): f"{value}x20" for name, value in said.items()}


def _restarts(values: str) -> Mapping[str, str]:
    return {series("node_systemd_service_restart_total", {**HOST, "name": "caddy.service"}): values}


MODELS_FILE = "/var/lib/paddock/metrics/paddock-models.prom"


def _model_failed(values: str) -> Mapping[str, str]:
    return {series("paddock_model_failed", {**HOST, "server": "router", "model": "small"}): values}


def _written(values: str) -> Mapping[str, str]:
    return {series("node_textfile_mtime_seconds", {**HOST, "file": MODELS_FILE}): values}


def _unsent(values: str) -> Mapping[str, str]:
    return {series("prometheus_notifications_errors_total", {**PROMETHEUS, "alertmanager": "http://192.0.2.10:9093/api/v2/alerts"}): values}


def _of_gateway(name: str, values: str, **labels: str) -> Mapping[str, str]:
    return {series(f"paddock_gateway_{name}", {**GATEWAY, **labels}): values}


def _unit(name: str) -> Mapping[str, str]:
    return {**HOST, "name": name, "state": "failed", "type": "oneshot"}


SENSOR = {"chip": "pci0000:00", "sensor": "temp1"}
ALERTMANAGER = {"host": "box", "job": "alertmanager", "service": "alertmanager"}
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
    "Hot": Case(_sensor(98, 100), {**_sensor(90, 100), **_of_zone("x86_pkg_temp", 95), **_unsaid(95)}, "10m", {**HOST, **SENSOR}, "98"),
    "WatchdogGaveUp": Case(
        _failed("paddock-watchdog.service", "0 1x9"), _failed("caddy.service", "1x9"), "5m", _unit("paddock-watchdog.service")
    ),
    "CertificateExpires": Case(
        _failed("paddock-expiry-caddy.service", "1x9"),
        _failed("paddock-expiry-caddy.service", "0x9"),
        "5m",
        _unit("paddock-expiry-caddy.service"),
    ),
    "ServiceFailed": Case(
        _failed("caddy.service", "1x9"),
        {**_failed("paddock-watchdog.service", "1x9"), **_failed("paddock-expiry-caddy.service", "1x9"), **_failed("caddy.service", "0x9")},
        "5m",
        _unit("caddy.service"),
    ),
    "ServiceRestarts": Case(_restarts("0+1x40"), _restarts("0x20 1+0x20"), "40m", {**HOST, "name": "caddy.service"}),
    "ModelFailed": Case(_model_failed("0x4 1x9"), _model_failed("0x13"), "10m", {**HOST, "server": "router", "model": "small"}),
    "ModelMetricsOld": Case(_written("0x9"), _written("0+60x9"), "6m", {**HOST, "file": MODELS_FILE}, "6m 0s"),
    "RequestsWait": Case(
        {series("llamacpp:requests_deferred", SERVER): "3x40"},
        {series("llamacpp:requests_deferred", SERVER): "3x10 0 3x10 0x20"},
        "30m",
        SERVER,
        "3",
    ),
    "FirstTokenSlow": Case(
        _waits("first_token_seconds", "60"), _waits("first_token_seconds", "10"), "30m", {**GATEWAY, "model": "small"}, "57.5s"
    ),
    "QueueWaitLong": Case(
        _waits("queue_wait_seconds", "60"), _waits("queue_wait_seconds", "10"), "30m", {**GATEWAY, "model": "small"}, "57.5s"
    ),
    "QueueLong": Case(
        {**_of_gateway("queue_depth", "9x20", model="small"), **_of_gateway("slots", "2x20", backend="box")},
        {**_of_gateway("queue_depth", "8x20", model="small"), **_of_gateway("slots", "2x20", backend="box")},
        "15m",
        GATEWAY,
        "9",
    ),
    "BackEndAway": Case(
        _of_gateway("slots", "0x20", backend="box"), _of_gateway("slots", "0x8 2 0x8", backend="box"), "16m", {**GATEWAY, "backend": "box"}
    ),
    "SwapsOften": Case(
        _of_gateway("swaps_total", "0+2x60", backend="box"),
        _of_gateway("swaps_total", "0+0.5x60", backend="box"),
        "50m",
        {**GATEWAY, "backend": "box"},
    ),
    "LimitedLong": Case(
        _of_gateway("limited_total", "0+1x120", limit="rpm"),
        _of_gateway("limited_total", "0+1x40 40x80", limit="rpm"),
        "100m",
        {**GATEWAY, "limit": "rpm"},
    ),
    "RequestLogAway": Case(_of_gateway("database_up", "0x20"), _of_gateway("database_up", "0x4 1 0x4 1x9"), "10m", GATEWAY),
    "RowsDropped": Case(_of_gateway("log_rows_dropped_total", "0x9 4x9"), _of_gateway("log_rows_dropped_total", "4x18"), "12m", GATEWAY),
    "NotificationsFail": Case(
        {series("alertmanager_notifications_failed_total", {**ALERTMANAGER, "integration": "email"}): "0+1x40"},
        {series("alertmanager_notifications_failed_total", {**ALERTMANAGER, "integration": "email"}): "0x20 1x20"},
        "30m",
        {**ALERTMANAGER, "integration": "email"},
    ),
    "AlertmanagerLost": Case(_unsent("0+1x20"), _unsent("0x5 2x15"), "12m", PROMETHEUS),
    "DeadMansSwitch": Case({}, {}, "1m", {}),
    "ConfigurationRefused": Case(
        {series("prometheus_config_last_reload_successful", PROMETHEUS): "0x20"},
        {series("prometheus_config_last_reload_successful", PROMETHEUS): "0x9 1x9"},
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
        # What shows that all is well fires whatever is read.
        quiet = [] if rule.severity != "none" else [alert]
        for given, expected in ((case.fires, [alert]), (case.quiet, quiet)):
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
    return re.sub(r"{{ \$value( \| \w+)? }}", case.value, text)
