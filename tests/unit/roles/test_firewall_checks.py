"""How a loaded table is read, as nft lists it."""

from __future__ import annotations

import pytest

from roles.firewall.checks import strangers_ports

TABLE = """table inet paddock {
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "lo" accept
		ct state established,related accept
		ip saddr { 192.0.2.2, 198.51.100.0/24 } tcp dport 8080 accept
		ip6 saddr 2001:db8::2 tcp dport 8080 accept
		tcp dport 8080 reject
		tcp dport 8081 reject
		meta nfproto ipv4 tcp dport 8082 accept
		tcp dport 8082 reject
	}
}
"""


@pytest.mark.parametrize(
    ("caller", "kept_out_of"),
    [
        ("203.0.113.5", (8080, 8081)),
        ("192.0.2.2", (8081,)),
        ("198.51.100.77", (8081,)),
        ("2001:db8::2", (8081, 8082)),
        ("2001:db8::3", (8080, 8081, 8082)),
    ],
)
def test_a_caller_is_a_stranger_where_no_rule_names_it(caller: str, kept_out_of: tuple[int, ...]) -> None:
    assert strangers_ports(TABLE, caller) == kept_out_of
