"""What shows that the worker computes for the one server that names it, and that nobody else gets in."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from resources import lines_of
from roles.outside import STRANGER, Outside
from roles.role import address_of, port_of
from roles.rpc_worker.plan import BEHIND, UNIT, callers_of
from roles.rpc_worker.settings import RpcWorkerSettings

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from inventory.fleet import Fleet, Host


def check_the_server_that_names_it_has_reached_it(host: TestinfraHost, settings: RpcWorkerSettings, fleet: Fleet, this: Host) -> None:
    """llama-server holds one connection as long as it has its model."""
    if not callers_of(this.name, fleet):
        return
    pid = host.check_output("systemctl show --property=MainPID --value %s", UNIT)
    at = port_of(BEHIND if settings.encrypted else settings.listen)
    open_ones = host.check_output("nsenter --net=/proc/%s/ns/net ss -Htnp state established %s", pid, f"( sport = :{at} )")
    ours = [line for line in lines_of(open_ones) if f"pid={pid}," in line]
    whose = " and ".join(f"{each.host}/{each.name}" for each in fleet.servers_of_worker(this.name))
    assert ours, f"nobody is connected, and {whose} should be: `paddock logs` there says why"


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
