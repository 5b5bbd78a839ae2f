"""The watch itself: Prometheus and Alertmanager, and the alert that always fires."""

from __future__ import annotations

from roles.metrics import SIGN_OF_LIFE
from roles.prometheus.rules.rule import Rule

RULES = (
    Rule(
        "ConfigurationRefused",
        "prometheus",
        "prometheus_config_last_reload_successful == 0",
        "1m",
        "critical",
        "Prometheus on {{ $labels.host }} goes on with an older configuration than it was given",
        "`journalctl -u prometheus` says what is wrong with it; `paddock up --limit {{ $labels.host }}` writes it anew.",
    ),
    Rule(
        "NotificationsFail",
        "alertmanager",
        "sum by (host, job, service, integration) (increase(alertmanager_notifications_failed_total[15m])) > 1",
        "0s",
        "critical",
        "Alertmanager on {{ $labels.host }} cannot tell people by {{ $labels.integration }}",
        "`journalctl -u prometheus-alertmanager` on the host says what the server answered.",
    ),
    Rule(
        "AlertmanagerLost",
        "alertmanager",
        "sum by (host, job, service) (increase(prometheus_notifications_errors_total[10m])) > 2",
        "0s",
        "critical",
        "Prometheus on {{ $labels.host }} could not hand alerts to Alertmanager",
        "`systemctl status prometheus-alertmanager` on Alertmanager's host says whether it runs; look at the firewall between them.",
    ),
    Rule(
        SIGN_OF_LIFE,
        "alertmanager",
        "vector(1)",
        "0s",
        "none",
        "Prometheus and Alertmanager work",
        "Nothing. Whoever waits for this and does not get it has to look at the host with Prometheus.",
    ),
)
