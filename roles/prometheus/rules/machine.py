"""A machine: whether it is there, its disks, memory, temperatures and clock."""

from __future__ import annotations

from roles.metrics import HOST_DOWN
from roles.prometheus.rules.rule import Rule

STORED = "node_filesystem_readonly == 0"
"""Of file systems that somebody writes to."""

RULES = (
    Rule(
        HOST_DOWN,
        "node_exporter",
        'up{job="node_exporter"} == 0',
        "3m",
        "critical",
        "{{ $labels.host }} does not show its metrics",
        "Look whether the host is up and on the network, then at `systemctl status prometheus-node-exporter` there.",
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
        "Hot",
        "node_exporter",
        # The limit is the sensor's own, where it has a sensible one; a Raspberry Pi has none, and slows down from 80 degrees on.
        "(node_hwmon_temp_celsius >= node_hwmon_temp_crit_celsius - 3 and node_hwmon_temp_crit_celsius > 40 < 130)"
        ' or node_thermal_zone_temp{type="cpu-thermal"} > 80',
        "5m",
        "warning",
        "a sensor of {{ $labels.host }} shows {{ $value | humanize }} degrees",
        "`sensors` on the host names it. Look at fans and dust, or lower the power limit of the card (role gpu).",
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
)
