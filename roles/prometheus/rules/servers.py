"""llama-servers, and what else is read."""

from __future__ import annotations

from roles.prometheus.rules.rule import Rule

RULES = (
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
        "ModelFailed",
        "node_exporter",
        "paddock_model_failed == 1",
        "1m",
        "critical",
        "{{ $labels.model }} could not be loaded by {{ $labels.server }} of {{ $labels.host }}",
        "`paddock logs {{ $labels.host }}` shows what the router says. The next request for the model tries again.",
    ),
    Rule(
        "ModelMetricsOld",
        "node_exporter",
        'time() - node_textfile_mtime_seconds{file=~".*paddock-models.prom"} > 120',
        "1m",
        "warning",
        "what is told of the models of {{ $labels.host }} is {{ $value | humanizeDuration }} old",
        "`journalctl -u paddock-model-metrics` on the host says why.",
    ),
    Rule(
        "RequestsWait",
        "llama_server",
        "llamacpp:requests_deferred > 0",
        "15m",
        "warning",
        "{{ $labels.service }} of {{ $labels.host }} has had {{ $value }} requests waiting for a quarter of an hour",
        "Give {{ $labels.model }} more slots (`parallel`) or another server, or put a gateway before it that shares the slots out.",
    ),
)
