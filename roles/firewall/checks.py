"""What shows that the table is loaded, and keeps out whom it should."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address, ip_network

from testinfra.host import Host as TestinfraHost

from inventory.fleet import Host
from roles.firewall.plan import RULES

LOADED = "nft list table inet paddock"

CALLS_S = 3
"""A refusal comes at once; what is not answered at all is not reached either."""


def check_the_table_is_loaded_as_it_is_written(host: TestinfraHost) -> None:
    """The rules' own file, loaded where nothing else is, is listed as the table that is in force."""
    in_force = host.run(LOADED)
    assert in_force.rc == 0, f"it is not loaded, and nobody is kept out: {in_force.stderr.strip()}"
    assert in_force.stdout == host.check_output("unshare --net sh -c %s", f"nft --file {RULES} && {LOADED}") + "\n", (
        "somebody has changed it: `systemctl reload paddock-firewall` loads it as it is written"
    )


def check_no_stranger_reaches_what_is_guarded(host: TestinfraHost, this: Host) -> None:
    """This machine is one, unless a rule names it or it is the host itself."""
    for address in addresses(this.address):
        caller = source_towards(address)
        if not caller or ip_address(caller).is_loopback or caller == address:
            continue
        for number in strangers_ports(host.check_output(LOADED), caller):
            assert not answers(address, number), f"{address} port {number} answers {caller}, which no rule names"


def strangers_ports(table: str, caller: str) -> tuple[int, ...]:
    """The TCP ports that a table as nft lists it keeps from this address."""
    found = []
    for number in re.findall(r"tcp dport (\d+) reject", table):
        accepting = re.findall(rf"^\s*(.*) tcp dport {number} accept$", table, re.MULTILINE)
        networks = [ip_network(each) for line in accepting for each in re.findall(r"[0-9a-f]*[.:][0-9a-f.:]+(?:/\d+)?", line)]
        everybody = f"meta nfproto ipv{ip_address(caller).version}" in accepting
        if not everybody and not any(ip_address(caller) in each for each in networks):
            found.append(int(number))
    return tuple(found)


def addresses(name: str) -> tuple[str, ...]:
    """An address itself, or those that a name stands for here."""
    return tuple(dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)))


def source_towards(address: str) -> str:
    """The address that this machine would call that one from; empty where no way leads there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as way:  # no packet is sent
        try:
            way.connect((address, 9))
        except OSError:
            return ""
        return str(way.getsockname()[0])


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=CALLS_S).close()
    except OSError:
        return False
    return True
