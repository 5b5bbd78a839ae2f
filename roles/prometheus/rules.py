"""What the fleet is told of: alert rules as data. Each has its paragraph in docs/monitoring.md."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

STORED = "node_filesystem_readonly == 0"
"""Of file systems that somebody writes to."""


@dataclass(frozen=True)
class Rule:
    """One alert. `job` is whose readings it looks at: without such a target the rule is not there. `lasts` is for how long it has to be so,
    as Prometheus writes it; `summary` and `what_to_do` are Prometheus' templates."""

    name: str
    job: str
    expression: str
    lasts: str
    severity: Literal["warning", "critical"]
    summary: str
    what_to_do: str

    @property
    def page(self) -> str:
        return f"docs/monitoring.md#{self.name.lower()}"


RULES = (
    Rule(
        "HostDown",
        "node_exporter",
        'up{job="node_exporter"} == 0',
        "3m",
        "critical",
        "{{ $labels.host }} does not show its metrics",
        "Look whether the host is up and on the network, then at `systemctl status prometheus-node-exporter` there.",
    ),
    Rule(
        "ServiceDown",
        "prometheus",
        'up{job!~"node_exporter|llama_server"} == 0',
        "3m",
        "critical",
        "{{ $labels.service }} of {{ $labels.host }} does not answer",
        "`paddock status --limit {{ $labels.host }}` says what is not as declared, `paddock logs {{ $labels.host }}` why.",
    ),
    Rule(
        "ModelServerDown",
        "llama_server",
        'up{job="llama_server"} == 0',
        "10m",
        "critical",
        "{{ $labels.service }} of {{ $labels.host }} does not serve {{ $labels.model }}",
        "`paddock logs {{ $labels.host }}` shows what the server says. A large model may take longer than this to load.",
    ),
    Rule(
        "DiskNearlyFull",
        "node_exporter",
        f"node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.08 and {STORED}",
        "10m",
        "warning",
        "{{ $labels.mountpoint }} of {{ $labels.host }} has {{ $value | humanizePercentage }} free",
        "`paddock models list` shows what lies there. Remove what nothing needs, or give the models another directory.",
    ),
    Rule(
        "DiskFills",
        "node_exporter",
        "predict_linear(node_filesystem_avail_bytes[6h], 86400) < 0"
        f" and node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.3 and {STORED}",
        "1h",
        "warning",
        "{{ $labels.mountpoint }} of {{ $labels.host }} is full within a day if it goes on as in the last six hours",
        "Find what grows there: `du -xh --max-depth=2 {{ $labels.mountpoint }} | sort -h | tail`.",
    ),
    Rule(
        "MemoryLow",
        "node_exporter",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05",
        "10m",
        "warning",
        "{{ $labels.host }} has {{ $value | humanizePercentage }} of its memory available",
        "Lower a model's context or the number of models in memory: `paddock plan` says what each takes.",
    ),
    Rule(
        "OutOfMemory",
        "node_exporter",
        "increase(node_vmstat_oom_kill[15m]) > 0",
        "0s",
        "critical",
        "{{ $labels.host }} has ended a process for want of memory",
        "`journalctl -k -g 'Out of memory|oom-kill'` on the host names it. Set memory_max of what takes too much.",
    ),
    Rule(
        "ClockOff",
        "node_exporter",
        "abs(node_time_seconds - timestamp(node_time_seconds)) > 3",
        "5m",
        "warning",
        "the clock of {{ $labels.host }} is {{ $value | humanizeDuration }} off Prometheus' own",
        "`timedatectl` on both hosts says which is wrong. Certificates, limits and logs count on it.",
    ),
    Rule(
        "ClockNotSynchronized",
        "node_exporter",
        "node_timex_sync_status == 0",
        "1h",
        "warning",
        "nothing keeps the clock of {{ $labels.host }} right",
        "Have the role base see to it (`base: {time: …}`), or start what does it there.",
    ),
    Rule(
        "ConfigurationRefused",
        "prometheus",
        "prometheus_config_last_reload_successful == 0",
        "5m",
        "critical",
        "Prometheus on {{ $labels.host }} goes on with an older configuration than it was given",
        "`journalctl -u prometheus` says what is wrong with it; `paddock up --limit {{ $labels.host }}` writes it anew.",
    ),
)


def document(jobs: Collection[str]) -> dict[str, Any]:
    """The file of rules, as Prometheus has it, for a fleet with these jobs."""
    return {"groups": [{"name": "paddock", "rules": [_rule(each) for each in RULES if each.job in jobs]}]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expression,
        "for": rule.lasts,
        "labels": {"severity": rule.severity},
        "annotations": {"summary": rule.summary, "what_to_do": rule.what_to_do, "page": rule.page},
    }
