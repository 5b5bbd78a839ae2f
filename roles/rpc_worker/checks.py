"""What shows that the worker is there for the one server that names it, and that nobody else gets in."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from resources import lines_of
from roles.outside import STRANGER, Outside
from roles.role import address_of, port_of
from roles.rpc_worker.plan import BEHIND, UNIT
from roles.rpc_worker.settings import RpcWorkerSettings

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from inventory.fleet import Host


def check_it_listens_and_where_it_is_to(host: TestinfraHost, settings: RpcWorkerSettings) -> None:
    """Behind a tunnel in its own network, which nobody else is in. Whether its server has reached it, the server's host shows."""
    pid = host.check_output("systemctl show --property=MainPID --value %s", UNIT)
    at = BEHIND if settings.encrypted else settings.listen
    listening = host.check_output("nsenter --net=/proc/%s/ns/net ss -Hltnp", pid)
    ours = [line.split()[3] for line in lines_of(listening) if f"pid={pid}," in line]
    assert ours == [at], f"it listens on {', '.join(ours) or 'nothing'}, and is to on {at}"
    if settings.encrypted:
        apart = host.check_output("readlink /proc/%s/ns/net /proc/1/ns/net", pid).split()
        assert len(set(apart)) == 2, "it is in the network of its host, which every account there is in"


def check_who_shows_no_certificate_of_its_server_gets_nothing(settings: RpcWorkerSettings, this: Host, outside: Outside) -> None:
    """This machine is nobody's server: it gets nothing without a certificate, nor with a client's, nor with that of another CA."""
    if not settings.encrypted:
        return
    listen = address_of(settings.listen)
    at = this.address if ip_address(listen).is_unspecified else listen
    for client in (None, *sorted(outside.clients)[:1], STRANGER):
        try:
            let_in = outside.is_let_in(at, port_of(settings.listen), client)
        except OSError:  # a firewall
            continue
        assert not let_in, f"it lets in {client or 'somebody without a certificate'}"
