"""What somebody else has on a host: the rest of its Caddyfile, as Caddy reads it, and chains of nftables that drop."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from facts.neighbours import FOREIGN_SH, caddyfile, input_chains
from inventory.neighbours import Caddyfile, InputChain, Listener
from resources import as_unit

SECRET = "sk-of-theirs"


def site(*listen: str, hosts: tuple[str, ...] = (), **server: Any) -> dict[str, Any]:
    route: dict[str, Any] = {"handle": [{"handler": "headers", "request": {"set": {"Authorization": [SECRET]}}}]}
    return {"listen": list(listen), "routes": [{**route, "match": [{"host": list(hosts)}]} if hosts else route], **server}


def read(*servers: dict[str, Any], **others: Any) -> Caddyfile:
    http = {"servers": {f"srv{at}": each for at, each in enumerate(servers)}}
    apps = {"apps": {"http": {**http, **{key: others.pop(key) for key in ("http_port",) if key in others}}}}
    found = caddyfile(["there", json.dumps({**apps, **others})])
    assert found
    return found


def test_a_site_listens_for_https_and_for_the_redirect_to_it() -> None:
    found = read(site(":8443", hosts=("Theirs.home.example",)))
    names = ("theirs.home.example",)
    assert found.listeners == (Listener(":8443", names), Listener(":80", names, https=False, implied=True))
    assert SECRET not in repr(found)


def test_plain_sites_are_known_by_their_port_or_by_what_caddy_skips() -> None:
    found = read(
        site(":80", hosts=("a.home.example",)), site(":8081", hosts=("b.home.example",), automatic_https={"skip": ["b.home.example"]})
    )
    assert [(each.address, each.https, each.implied) for each in found.listeners] == [(":80", False, False), (":8081", False, False)]


def test_every_address_is_one_of_its_own_and_a_socket_in_the_file_system_is_none() -> None:
    found = read(site("tcp4/0.0.0.0:443", "[2001:db8::7]:443", "unix//run/x.sock", hosts=("a.home.example",)))
    assert [each.address for each in found.listeners] == ["tcp4/0.0.0.0:443", "tcp4/0.0.0.0:80", "[2001:db8::7]:443", "[2001:db8::7]:80"]


def test_a_site_without_a_name_is_seen_and_whether_caddy_is_strict_there() -> None:
    (found, _) = read(site(":443", tls_connection_policies=[{}])).listeners
    assert (found.any_name, found.strict, found.https) == (True, True, True)
    (found, _) = read(site(":443", tls_connection_policies=[{}], strict_sni_host=False)).listeners
    assert not found.strict


def test_options_that_reach_all_sites_are_seen() -> None:
    a = site(":443", hosts=("a.home.example",))
    found = read({**a, "automatic_https": {"disable_redirects": True}}, admin={"disabled": True})
    assert (found.redirects, found.certificates, found.administration) == (False, True, "off")
    assert [each.implied for each in found.listeners] == [False]
    found = read({**a, "automatic_https": {"disable": True}}, admin={"listen": "localhost:2020"})
    assert (found.redirects, found.certificates, found.administration) == (False, False, "localhost:2020")
    found = read(a, http_port=8080)
    assert (found.http_port, found.listeners[1].address) == (8080, ":8080")


def test_paths_are_seen_where_caddy_reads_and_writes_and_no_secret_that_looks_like_one() -> None:
    handlers = [
        {"handler": "file_server", "root": "/srv/www"},
        {"handler": "reverse_proxy", "upstreams": [{"dial": "unix//run/php/fpm.sock"}, {"dial": "127.0.0.1:9000"}]},
        {"handler": "headers", "request": {"set": {"Authorization": ["/9j/4AAQ"]}}},
    ]
    logging = {"logs": {"default": {"writer": {"output": "file", "filename": "/srv/logs/a.log"}}}}
    found = read(
        {**site("unix//run/caddy.sock|0222"), "routes": [{"match": [{"path": ["/home/*"]}], "handle": handlers}]},
        logging=logging,
        storage={"module": "file_system", "root": "/srv/storage"},
    )
    assert found.reads == ("/run/php/fpm.sock", "/srv/www")
    assert found.writes == ("/run/caddy.sock", "/srv/logs/a.log", "/srv/storage")


def test_names_with_tls_settings_of_their_own_are_known() -> None:
    policies = [{"match": {"sni": ["A.home.example"]}, "protocol_min": "tls1.3"}, {}]
    (found, _) = read(site(":443", hosts=("a.home.example", "b.home.example"), tls_connection_policies=policies)).listeners
    assert found.with_tls == ("a.home.example",)


def test_a_caddyfile_that_caddy_refuses_is_known_for_one_and_none_is_none() -> None:
    assert caddyfile(["there", ""]) == caddyfile(["there"]) == Caddyfile(is_valid=False)
    assert caddyfile(["there", "{}"]) == Caddyfile()
    assert caddyfile([]) is None


def test_a_chain_that_drops_is_known_with_the_ports_that_its_rules_name() -> None:
    found = list(input_chains(["inet filter input 22 8000-8100 22", "ip filter INPUT"]))
    assert found == [InputChain("inet filter input", ("22", "8000-8100")), InputChain("ip filter INPUT")]


def test_paddocks_line_and_comments_are_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "Caddyfile"
    script = FOREIGN_SH.replace("/etc/caddy/Caddyfile", str(path))

    def foreign(text: str) -> str:
        path.write_text(text)
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout

    ours = "# mine\n\nimport /etc/caddy/paddock/*.caddy\n"
    assert foreign(ours) == ""
    assert foreign(f"{ours}import sites/*\n") == "import sites/*\n"


def test_a_units_environment_comes_to_its_command_whole_and_not_as_arguments(tmp_path: Path) -> None:
    """Whatever it holds: a value may have quotes, dollars, line breaks and equals signs in it."""
    (tmp_path / "environ").write_bytes(b"A=it's $HOME\0B=two\nlines\0C=a=b\0bad.name=1\0")
    command = as_unit("x.service", "nobody", "env -0", home="/nowhere")
    assert "it's" not in command
    command = command.replace("/proc/$(systemctl show -P MainPID x.service)/environ", str(tmp_path / "environ"))
    done = subprocess.run(["sh", "-c", command.replace("runuser -u nobody --", "")], capture_output=True)
    found = dict(each.split(b"=", 1) for each in done.stdout.split(b"\0") if each)
    assert [found.get(name) for name in (b"A", b"B", b"C", b"HOME", b"bad.name")] == [
        b"it's $HOME",
        b"two\nlines",
        b"a=b",
        b"/nowhere",
        None,
    ]
