"""What a gateway sees: how long requests wait, back ends that are away, its request log, users at their limits."""

from __future__ import annotations

from roles.prometheus.rules.rule import Rule

OF = "host, job, service"


def _slowest_twentieth(histogram: str) -> str:
    """Seconds within which 19 of 20 requests of the last ten minutes were, by model."""
    return f"histogram_quantile(0.95, sum by ({OF}, model, le) (rate(paddock_gateway_{histogram}_bucket[10m])))"


RULES = (
    Rule(
        "FirstTokenSlow",
        "gateway",
        f"{_slowest_twentieth('first_token_seconds')} > #first_token_s#",
        "10m",
        "warning",
        "requests for {{ $labels.model }} at {{ $labels.host }} wait {{ $value | humanizeDuration }} for their first token",
        "Look whether they wait for a slot (QueueLong) or prompts are long. `paddock verify` tells of a server below its floor.",
    ),
    Rule(
        "QueueWaitLong",
        "gateway",
        f"{_slowest_twentieth('queue_wait_seconds')} > #queue_wait_s#",
        "10m",
        "warning",
        "requests for {{ $labels.model }} at {{ $labels.host }} wait {{ $value | humanizeDuration }} for a slot",
        "Give {{ $labels.model }} more slots (`parallel`) or another server, or its users smaller limits.",
    ),
    Rule(
        "QueueLong",
        "gateway",
        f"sum by ({OF}) (paddock_gateway_queue_depth) > 4 * sum by ({OF}) (paddock_gateway_slots) > 0",
        "5m",
        "warning",
        "{{ $value }} requests wait at the gateway of {{ $labels.host }}, more than four for each slot",
        "`paddock keys list` shows who asks. Add slots or servers, or set limits of users.",
    ),
    Rule(
        "BackEndAway",
        "gateway",
        "paddock_gateway_slots == 0",
        "10m",
        "critical",
        "the gateway of {{ $labels.host }} does not reach {{ $labels.backend }}",
        "`paddock status` and `paddock logs` of its host say whether it serves. A back end that loads its model has no slots yet.",
    ),
    Rule(
        "SwapsOften",
        "gateway",
        "increase(paddock_gateway_swaps_total[15m]) > 15",
        "15m",
        "warning",
        "the router {{ $labels.backend }} loads another model more than once a minute",
        "Raise its `models_max` if memory allows, or give one of the models a server of its own.",
    ),
    Rule(
        "LimitedLong",
        "gateway",
        f"sum by ({OF}, limit) (increase(paddock_gateway_limited_total[10m])) > 0",
        "1h",
        "warning",
        "the gateway of {{ $labels.host }} has refused requests for an hour, by the limit {{ $labels.limit }}",
        "`paddock keys list` shows who is at their limit. Raise it, or ask them to ask less.",
    ),
    Rule(
        "RequestLogAway",
        "gateway",
        "paddock_gateway_database_up == 0",
        "5m",
        "critical",
        "the gateway of {{ $labels.host }} does not reach its database",
        "Rows of the request log wait on its disk. `paddock status` of the host with PostgreSQL says what is wrong there.",
    ),
    Rule(
        "RowsDropped",
        "gateway",
        "increase(paddock_gateway_log_rows_dropped_total[15m]) > 0",
        "0s",
        "critical",
        "the gateway of {{ $labels.host }} had no room for rows of its request log",
        "Its database is away or slow, and its disk has taken as much as it may. See RequestLogAway.",
    ),
)
