from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from roles.references import Finding, Whole
from roles.role import Endpoint, Matches, RoleSettings
from roles.wording import did_you_mean, quoted

UNIT = "prometheus.service"

LeftOut = Annotated[str, Matches(r"[a-z0-9-]+(/[A-Za-z0-9._-]+)?", "is neither a host nor one of its services, such as rig or rig/gateway")]


class PrometheusSettings(RoleSettings):
    """The distribution's Prometheus. It reads the metrics of every host, gateway and llama-server of the inventory that it can ask without
    waking a model, and has the fleet's alert rules. docs/monitoring.md is its manual."""

    listen: Endpoint = "127.0.0.1:9090"
    """The listening address. Prometheus speaks plain HTTP and asks nobody for a key. With the role firewall on this host, other machines
    reach it only as far as that role's `allow` names them."""

    scrape_interval_s: Annotated[int, Field(ge=5, le=300)] = 15
    """Seconds between two readings."""

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that readings are kept."""

    retention_mib: Annotated[int, Field(ge=256, le=16 * 1024 * 1024)] = 4096
    """MiB that readings may take on disk. The oldest go first, also before their days are over."""

    first_token_s: Annotated[float, Field(gt=0, le=120)] = 30
    """Seconds to the first token, from the request, beyond which you want to be told: of the slowest twentieth of a model's requests at a
    gateway, for ten minutes."""

    queue_wait_s: Annotated[float, Field(gt=0, le=300)] = 30
    """The same for the seconds that requests wait for a slot."""

    leave_out: tuple[LeftOut, ...] = ()
    """Hosts, and services of hosts, that are not watched: `[old, rig/gateway]`."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def watches(self, host: str) -> bool:
        return host not in self.leave_out

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """What it leaves out is there."""
        for number, name in enumerate(self.leave_out):
            at, (other, _, service) = ("roles", "prometheus", "leave_out", str(number)), name.partition("/")
            if other not in fleet.roles:
                yield Finding(at, fleet.no_host(other), of_value=True)
                continue
            shown = [found.service for each in fleet.roles[other].values() if each for found in each.shown_metrics(other)]
            have = [*shown, *(server.name for server in fleet.servers(other))]
            if service and service not in have:
                words = f"nothing of {other} that has metrics is called {quoted(service)}{did_you_mean(service, have)}"
                yield Finding(at, f"{words}: it has {', '.join(have) or 'none'}", of_value=True)
