"""Units of systemd: what failed, what starts again and again, and those that fail to tell of something."""

from __future__ import annotations

from roles.prometheus.rules.rule import Rule

FAILED = 'node_systemd_unit_state{state="failed"'

RULES = (
    Rule(
        "WatchdogGaveUp",
        "node_exporter",
        f'{FAILED}, name="paddock-watchdog.service"}} == 1',
        "1m",
        "critical",
        "the watchdog of {{ $labels.host }} could not help a llama-server",
        "`systemctl status paddock-watchdog` on the host names the server; `paddock logs {{ $labels.host }}` shows its log.",
    ),
    Rule(
        "CertificateExpires",
        "node_exporter",
        f'{FAILED}, name=~"paddock-expiry-.*"}} == 1',
        "1m",
        "critical",
        "a certificate on {{ $labels.host }} nears its end, is over, or is not there",
        "`systemctl status {{ $labels.name }}` on the host names it. `paddock up --limit {{ $labels.host }}` renews it.",
    ),
    Rule(
        "ServiceFailed",
        "node_exporter",
        f'{FAILED}, name!~"paddock-watchdog.service|paddock-expiry-.*"}} == 1',
        "2m",
        "critical",
        "{{ $labels.name }} of {{ $labels.host }} has failed",
        "`journalctl -u {{ $labels.name }}` on the host says why. `paddock up --limit {{ $labels.host }}` puts it back as declared.",
    ),
    Rule(
        "ServiceRestarts",
        "node_exporter",
        "increase(node_systemd_service_restart_total[30m]) > 3",
        "0s",
        "warning",
        "{{ $labels.name }} of {{ $labels.host }} starts again and again",
        "`journalctl -u {{ $labels.name }}` on the host says what ends it.",
    ),
)
