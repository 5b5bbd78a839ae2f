"""Which ports a firewall guards, and whom it lets through; that it holds is seen from outside in tests/edge/test_firewall.py."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import File, Port, Resource, Service, Stack
from roles import plan_of
from roles.firewall.plan import GUARD, RULES, UNIT, plan_beside
from roles.firewall.settings import FirewallSettings
from roles.host_plan import host_plan

DROPIN = "/etc/systemd/system/paddock-proxy-llama-server.socket.d/30-firewall.conf"
TUNNEL_DROPIN = "/etc/systemd/system/paddock-http-tunnel.socket.d/30-firewall.conf"


def fleet(
    listen: str = "0.0.0.0:8080",
    *,
    address: str = "192.0.2.3",
    door: str = "192.0.2.2",
    port: int = 22,
    sites: dict[str, Any] | None = None,
    encrypted: bool = False,
    **firewall: Any,
) -> Fleet:
    """An AI host behind a firewall, a reverse proxy that passes on to it, and a host that has no business there."""
    server = {"models": ["chat"], "listen": listen, "encrypted": encrypted}
    proxy = {"sites": {"ai.home.example": {"upstream": "halo"}} if sites is None else sites}
    hosts = {
        "halo": {"address": address, "port": port, "roles": {"firewall": firewall, "llama_cpp": {}, "models": {}, "llama_server": server}},
        "door": {"address": door, "roles": {"caddy": proxy}},
        "stray": {"address": "192.0.2.9", "roles": {"base": {}}},
    }
    document = {
        "name": "home",
        "domain": "home.example",
        "hosts": {name: {"name": name, **each} for name, each in hosts.items()},
        "models": {"chat": {}},
    }
    return Fleet.model_validate(document)


def rules(of: Fleet, host: str = "halo") -> list[str]:
    """What the table says of ports."""
    file = table(of, host)
    return [line.strip() for line in file.data.decode().splitlines() if "dport" in line]


def table(of: Fleet, host: str) -> File:
    """The file of rules."""
    this = of.hosts[host]
    settings = this.carried.get("firewall") or FirewallSettings()
    assert isinstance(settings, FirewallSettings)
    others = [each for role, its in this.carried.items() if role != "firewall" for each in plan_of(role).plan(this, its, of, Knowledge())]
    (file,) = (each for each in plan_beside(this, settings, of, others) if isinstance(each, File) and each.path == RULES)
    return file


def refusal(of: Fleet, host: str = "halo") -> str:
    with pytest.raises(PaddockError) as caught:
        rules(of, host)
    return str(caught.value)


def test_a_servers_port_is_reached_by_who_passes_requests_on_to_it_and_by_nobody_else() -> None:
    assert rules(fleet()) == ["ip saddr { 192.0.2.2 } tcp dport 8080 accept", "tcp dport 8080 reject"]


def test_one_that_nobody_passes_on_to_is_this_hosts_alone() -> None:
    assert rules(fleet(sites={})) == ["tcp dport 8080 reject"]


def test_what_listens_on_loopback_needs_no_rule() -> None:
    assert rules(fleet("127.0.0.1:8080", sites={})) == []


def test_a_reverse_proxy_is_open_to_everybody() -> None:
    of = fleet()
    assert [port for port in (443, 80) if any(str(port) in line for line in rules(of, "door"))] == []


def test_this_host_itself_and_connections_that_stand_are_never_cut_off() -> None:
    of = fleet()
    file = table(of, "halo")
    text = file.data.decode()
    first_refusal = text.index("reject")
    assert "policy accept;" in text
    assert -1 < text.index('iifname "lo" accept') < first_refusal
    assert -1 < text.index("ct state established,related accept") < first_refusal


def test_a_table_replaces_the_one_before_it_in_one_transaction_and_no_other() -> None:
    of = fleet()
    file = table(of, "halo")
    lines = [line for line in file.data.decode().splitlines() if line and not line.startswith(("#", "\t", "}"))]
    assert lines == ["table inet paddock", "delete table inet paddock", "table inet paddock {"]
    assert "flush ruleset" not in file.data.decode()


@pytest.mark.parametrize(
    ("allowed", "matches"),
    [
        (["192.0.2.64/26"], ["ip saddr { 192.0.2.2, 192.0.2.64/26 }"]),
        (["192.0.2.0/24"], ["ip saddr { 192.0.2.0/24 }"]),  # nft refuses a set with networks that overlap
        (["2001:db8::7"], ["ip saddr { 192.0.2.2 }", "ip6 saddr { 2001:db8::7 }"]),
        (["2001:db8::/33", "2001:db8:8000::/33"], ["ip saddr { 192.0.2.2 }", "ip6 saddr { 2001:db8::/32 }"]),
        (["0.0.0.0/0", "::/0"], ["meta nfproto ipv4", "meta nfproto ipv6"]),
    ],
)
def test_exceptions_are_let_through_too(allowed: list[str], matches: list[str]) -> None:
    *accepted, refused = rules(fleet(allow={"8080": allowed}))
    assert accepted == [f"{match} tcp dport 8080 accept" for match in matches]
    assert refused == "tcp dport 8080 reject"


@pytest.mark.parametrize(
    ("port", "ssh", "words"),
    [
        ("22", 22, "22 is SSH's port, which the firewall never restricts: leave it out"),
        ("22", 2222, "22 is SSH's port, which the firewall never restricts: leave it out"),
        ("2222", 2222, "2222 is SSH's port, which the firewall never restricts: leave it out"),
        ("9100", 22, "nothing in the inventory listens on port 9100 of halo: leave it out"),
    ],
)
def test_an_exception_is_of_a_port_that_is_guarded(port: str, ssh: int, words: str) -> None:
    assert refusal(fleet(port=ssh, allow={port: ["192.0.2.7"]})) == f"hosts.halo.roles.firewall.allow.{port}: {words}"


def test_an_exception_of_what_is_open_or_out_of_reach_anyway_is_refused() -> None:
    of = fleet()
    door = of.hosts["door"].model_copy(
        update={"roles": of.hosts["door"].roles.model_copy(update={"firewall": FirewallSettings(allow={"443": ("192.0.2.7",)})})}
    )
    of = of.model_copy(update={"hosts": {**of.hosts, "door": door}})
    assert refusal(of, "door") == "hosts.door.roles.firewall.allow.443: port 443, caddy.service, is open to everybody: leave it out"
    alone = fleet("127.0.0.1:8080", sites={}, allow={"8080": ["192.0.2.7"]})
    words = "paddock-proxy-llama-server.socket listens on port 8080 of loopback only: set for example 0.0.0.0"
    assert refusal(alone) == f"hosts.halo.roles.firewall.allow.8080: {words}"


@pytest.mark.parametrize(("listen", "ssh"), [("0.0.0.0:22", 2222), ("0.0.0.0:2222", 2222)])
def test_a_rule_for_ssh_is_never_made(listen: str, ssh: int) -> None:
    number = listen.rpartition(":")[2]
    words = f"paddock-proxy-llama-server.socket listens on SSH's port, {number}, which the firewall never restricts: give it another"
    assert refusal(fleet(listen, port=ssh)) == f"hosts.halo.roles.firewall: {words}"


def test_a_caller_whose_address_is_a_name_has_to_say_its_addresses() -> None:
    words = refusal(fleet(door="door.home.example"))
    assert words == (
        "hosts.halo.roles.firewall: door calls port 8080 over IPv4, and its address, door.home.example, is a name:"
        " add the address that it calls from, such as `addresses: {door: [192.0.2.2]}`"
    )
    said = fleet(door="door.home.example", addresses={"door": ["192.0.2.2"]})
    assert rules(said)[0] == "ip saddr { 192.0.2.2 } tcp dport 8080 accept"


@pytest.mark.parametrize(("listen", "address"), [("[2001:db8::3]:8080", "192.0.2.3"), ("[::]:8080", "2001:db8::3")])
def test_a_caller_over_ipv6_needs_an_address_of_that_family(listen: str, address: str) -> None:
    words = refusal(fleet(listen, address=address))
    assert "door calls port 8080 over IPv6, and only 192.0.2.2 is known of it" in words
    assert '`addresses: {door: ["2001:db8::2"]}`' in words
    said = fleet(listen, address=address, addresses={"door": ["2001:db8::2"]})
    assert rules(said)[:2] == ["ip saddr { 192.0.2.2 } tcp dport 8080 accept", "ip6 saddr { 2001:db8::2 } tcp dport 8080 accept"]


def test_addresses_of_a_host_that_there_is_not_are_a_mistake() -> None:
    assert 'no host is called "dor" (did you mean "door"?)' in refusal(fleet(addresses={"dor": ["192.0.2.2"]}))


@pytest.mark.parametrize(
    "settings",
    [
        {"allow": {"0": ["192.0.2.7"]}},
        {"allow": {"8080": ["192.0.2.7/24"]}},
        {"allow": {"8080": ["laptop"]}},
        {"addresses": {"door": ["x"]}},
    ],
)
def test_what_is_no_port_and_no_network_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FirewallSettings.model_validate(settings)


def test_it_stands_before_anything_listens_and_a_change_of_rules_is_a_reload() -> None:
    of = fleet()
    parts = host_plan(of.hosts["halo"], of, Knowledge())
    assert list(parts).index("firewall") < list(parts).index("llama_server")
    (service,) = (each for each in parts["firewall"] if isinstance(each, Service))
    assert (service.name, [each.id for each in service.reloads]) == (UNIT, [f"file:{RULES}", f"file:{DROPIN}"])
    (unit,) = (each for each in service.restarts if isinstance(each, File))
    text = unit.data.decode().splitlines()
    assert {"Before=network-pre.target shutdown.target", "WantedBy=sysinit.target", "DefaultDependencies=no"} < set(text)


def landing(of: Fleet, host: str = "halo") -> dict[str, Resource]:
    return {each.id: each for part in host_plan(of.hosts[host], of, Knowledge()).values() for each in part}


def test_what_is_guarded_asks_for_its_rules_before_it_starts_and_no_rule_restarts_it() -> None:
    plan = landing(fleet())
    dropin, server = plan[f"file:{DROPIN}"], plan["service:paddock-proxy-llama-server.socket"]
    assert isinstance(dropin, File) and isinstance(server, Service)
    lines = dropin.data.decode().splitlines()
    assert lines[lines.index("[Socket]") + 1] == f"ExecStartPre=+/bin/sh {GUARD} 8080/tcp" and f"After={UNIT}" in lines
    assert not [each for each in lines if each.startswith(("Requires=", "BindsTo=", "PartOf="))]
    other = landing(fleet(allow={"8080": ["192.0.2.7"]}))["service:paddock-proxy-llama-server.socket"]
    assert (server.started, server.loaded) == (other.desired["started"], other.desired["loaded"])
    assert dropin.id not in {each.id for each in server.reads}


def test_a_tunnel_is_guarded_in_the_servers_place_and_asks_too() -> None:
    plan = landing(fleet(encrypted=True))
    assert f"file:{DROPIN}" not in plan
    dropin = plan[f"file:{TUNNEL_DROPIN}"]
    assert isinstance(dropin, File) and f"[Socket]\nExecStartPre=+/bin/sh {GUARD} 8080/tcp\n" in dropin.data.decode()
    assert rules(fleet(encrypted=True)) == rules(fleet())


def test_an_address_has_no_certificate_for_a_tunnel() -> None:
    words = refusal(fleet(encrypted=True, allow={"8080": ["192.0.2.7"]}))
    assert words == (
        "hosts.halo.roles.firewall.allow.8080: paddock-http-tunnel.socket lets in hosts of the fleet by their certificates, which nobody"
        " at an address has: leave 8080 out, or set encrypted: false for what listens there"
    )


def test_what_listens_on_loopback_asks_for_none() -> None:
    assert f"file:{DROPIN}" not in landing(fleet("127.0.0.1:8080", sites={}))


def test_the_services_of_an_account_ask_too() -> None:
    of = fleet()
    halo = of.hosts["halo"].carried
    roles: dict[str, Any] = {name: settings.model_dump(exclude_unset=True) for name, settings in halo.items()}
    roles["admin"] = {"listen": "0.0.0.0:8079", "encrypted": False}
    roles["llama_server"] = {"models": ["chat"], "listen": "0.0.0.0:8080", "user": "ann"}
    document = {**of.model_dump(exclude_unset=True), "name": "home"}
    document["hosts"]["halo"]["roles"] = roles
    plan = landing(Fleet.model_validate(document))
    account = plan["file:/etc/systemd/user/llama-server.service.d/30-firewall.conf"]
    admin = plan["file:/etc/systemd/system/paddock-admin.socket.d/30-firewall.conf"]
    assert isinstance(account, File) and isinstance(admin, File)
    assert f"ExecStartPre=/bin/sh {GUARD} 8080/tcp" in account.data.decode() and "After=" not in account.data.decode()
    assert f"ExecStartPre=+/bin/sh {GUARD} 8079/tcp" in admin.data.decode()


HOOKED = "table inet paddock {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
CLOSED = "\t}\n}\n"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (f"{HOOKED}\t\ttcp dport 8080 reject\n\t\ttcp dport 8079 reject\n{CLOSED}", ""),
        (f"{HOOKED}\t\ttcp dport 8080 reject with icmpx port-unreachable\n\t\ttcp dport 8079 reject\n{CLOSED}", ""),
        ("", "port 8080/tcp: the firewall is not loaded"),
        (f"{HOOKED}{CLOSED}", "port 8080/tcp: the firewall has no rule for it"),
        (f"{HOOKED}\t\ttcp dport 8080 reject\n\t\ttcp dport 80791 reject\n{CLOSED}", "port 8079/tcp: the firewall has no rule for it"),
        (f"{HOOKED}\t\ttcp dport 8080 reject\n\t\tudp dport 8079 reject\n{CLOSED}", "port 8079/tcp: the firewall has no rule for it"),
        (f"table inet paddock {{\n\tchain input {{\n\t\ttcp dport 8080 reject\n{CLOSED}", "port 8080/tcp: the firewall's rules are not in"),
    ],
)
def test_the_guard_lets_a_service_start_where_each_of_its_ports_has_a_rule_in_force(tmp_path: Path, listed: str, words: str) -> None:
    """With a program that lists what is given; without a table it fails, as nft does."""
    guard = landing(fleet())[f"file:{GUARD}"]
    assert isinstance(guard, File)
    (tmp_path / "listed").write_text(listed)
    programs = {"nsenter": f'[ "$*" = "--target 1 --net nft list chain inet paddock input" ] && grep . {tmp_path}/listed', "id": "echo 0"}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "guard").write_bytes(guard.data)
    command = ["/bin/sh", str(tmp_path / "guard"), "8080/tcp", "8079/tcp"]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(words)
    assert words in done.stdout and ("systemctl restart paddock-firewall" in done.stdout) == bool(words)


def test_a_port_that_a_container_publishes_is_guarded_before_dockers_own_rules() -> None:
    this = fleet().hosts["halo"]
    settings = FirewallSettings()
    port = Port(8072, ("0.0.0.0",), "docker.service", reachable_from=("192.0.2.9",))
    resources = plan_beside(this, settings, fleet(), [Stack("web", "/etc/paddock/stacks/web", ports=(port,))])
    (file,) = (each for each in resources if isinstance(each, File) and each.path == RULES)
    text = file.data.decode()
    chain = text[text.index("chain prerouting") :]
    assert "type filter hook prerouting priority mangle" in chain  # which comes before dstnat
    assert [line.strip() for line in chain.splitlines() if "dport" in line] == [
        "fib daddr type local ip saddr { 192.0.2.9 } tcp dport 8072 accept",
        "fib daddr type local tcp dport 8072 drop",
    ]
    assert "chain prerouting" not in table(fleet(), "halo").data.decode()
