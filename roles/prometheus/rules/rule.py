"""An alert as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Rule:
    """One alert. `job` is whose readings it looks at: without such a target the rule is not there. `lasts` is for how long it has to be so,
    as Prometheus writes it; `summary` and `what_to_do` are Prometheus' templates. A setting of the role stands in
    `expression` between hashes: `#queue_wait_s#`."""

    name: str
    job: str
    expression: str
    lasts: str
    severity: Literal["none", "warning", "critical"]
    summary: str
    what_to_do: str

    @property
    def page(self) -> str:
        return f"docs/alerts.md#{self.name.lower()}"

    def said(self, limits: dict[str, float]) -> dict[str, Any]:
        """As Prometheus reads it. `limits` are the settings that expressions name."""
        expression = self.expression
        for name, value in limits.items():
            expression = expression.replace(f"#{name}#", f"{value:g}")
        return {
            "alert": self.name,
            "expr": expression,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "what_to_do": self.what_to_do, "page": self.page},
        }
