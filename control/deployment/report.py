"""What one run of `up` did on each host: printed, and with --json as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control.deployment.deployment import Deployment


def report(deployment: Deployment, changes: Mapping[str, int], failed_checks: Mapping[str, int], *, skipped: bool) -> dict[str, Any]:
    """`changes` is host → how much was to change there, `failed_checks` of those verified; `skipped`: with --no-verify."""
    hosts = {
        name: {
            "changed": changes.get(name, 0),
            "seconds": round(deployment.run.seconds.get(name, 0.0), 1),
            "release": deployment.release(name),
            "verified": _how_verified(name, deployment, changes, failed_checks),
            "failed": deployment.failures.get(name),
        }
        for name in (host.name for host in deployment.hosts)
    }
    return {"fleet": deployment.fleet.name, "hosts": hosts, "verification_skipped": skipped}


def has_failed(report: Mapping[str, Any]) -> bool:
    return any(each["failed"] or each["verified"] == "FAILED" for each in report["hosts"].values())


def _how_verified(name: str, deployment: Deployment, changes: Mapping[str, int], failed_checks: Mapping[str, int]) -> str:
    if name in failed_checks:
        return "FAILED" if failed_checks[name] else "yes"
    return "by the probe" if name in deployment.work and not changes.get(name) else "no"
