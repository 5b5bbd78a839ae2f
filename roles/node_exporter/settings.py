from __future__ import annotations

from collections.abc import Iterator

from roles.metrics import Metrics
from roles.role import Endpoint, RoleSettings

UNIT = "prometheus-node-exporter.service"


class NodeExporterSettings(RoleSettings):
    """Metrics of the machine itself, for Prometheus: processor, memory, disks, network, temperatures, its clock. The distribution's node
    exporter."""

    rolls_back = True

    listen: Endpoint = "127.0.0.1:9100"
    """Where the metrics are served. A Prometheus on another host needs an address of the network, such as 0.0.0.0:9100. With the role
    firewall on this host, only the fleet's Prometheus reaches it there."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def shown_metrics(self, host: str) -> Iterator[Metrics]:
        yield Metrics("node_exporter", self.listen, self.listen, "roles.node_exporter.listen")
