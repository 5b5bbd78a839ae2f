"""Between a reverse proxy and a server on another host: a tunnel that nobody reads along, and that nobody but the two hosts opens.

`stray` is a host of the fleet too, with a reverse proxy of its own and so with a certificate of a host: it is no caller of `far`.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn
from tests.thief import stolen

pytestmark = turn(0, of=3)

INVENTORY = """
fleet: hop
domain: home.example
networks: [192.0.2.0/24]
settle: 0
defaults: {roles: {base: {time: elsewhere}}}
hosts:
  door:
    address: 192.0.2.2
    roles:
      caddy: {sites: {ai.home.example: {upstream: far}}}
  far:
    address: 192.0.2.10
    roles:
      llama_cpp: {ui: false}
      models:
      llama_server: {listen: "0.0.0.0:8080", models: [demo]ENCRYPTED}
      admin: {listen: "0.0.0.0:8079"}
      firewall:
  other:
    address: 192.0.2.11
    roles:
      llama_cpp: {ui: false}
      models:
      llama_server: {listen: "0.0.0.0:8080", models: [demo]}
  stray:
    address: 192.0.2.66
    roles:
      caddy: {sites: {other.home.example: {upstream: other}}}
models: {demo: {preset: {ctx-size: 1024}}}
clients: {laptop: {admin: true}, phone: {}}
"""
SITE = "ai.home.example"
SECRET = "a-word-that-nobody-else-says"
DOOR, OWN = "/etc/paddock/caddy-tunnel", "/etc/paddock/http-tunnel"


def inventory(more: str = "") -> str:
    return INVENTORY.replace("ENCRYPTED", more)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("hop")
    with lab_fleet("hop", tmp_path_factory.mktemp("hop"), inventory(), ready=True) as fleet:
        fleet.up()
        for client in ("laptop", "phone"):
            assert fleet.paddock("certs", "export", client, "--lab").returncode == 0
            files = {name: (fleet.state / "export" / client / name).read_text() for name in ("ca.pem", "cert.pem", "key.pem")}
            written = "".join(f"printf %s {shlex.quote(text)} >/root/{client}/{name}; " for name, text in files.items())
            fleet.on("stray", f"mkdir -p /root/{client}; {written}")
        yield fleet


@pytest.fixture
def fleet(deployed: LabFleet) -> LabFleet:
    if deployed.inventory.read_text() != inventory():
        deployed.write(inventory())
        deployed.up("--no-verify")
    return deployed


def ask(
    fleet: LabFleet, path: str = "/v1/completions", client: str = "laptop", word: str = SECRET, *, check: bool = True, wait_s: int = 60
) -> str:
    """What the site answers a client who asks from `stray`, and its status. Without a word it is asked without a body."""
    home, door = f"/root/{client}", fleet.host("door").address
    body = json.dumps({"model": "demo", "prompt": word, "max_tokens": 8})
    data = f"-H 'Content-Type: application/json' -d {shlex.quote(body)}" if word else ""
    curl = f"curl -sS --max-time {wait_s} --resolve {SITE}:443:{door} --cacert {home}/ca.pem --cert {home}/cert.pem --key {home}/key.pem"
    return fleet.on("stray", f"{curl} -w ' %{{http_code}}' {data} https://{SITE}{path}", check=check)


def sniffed(fleet: LabFleet, found: str, port: int = 8080) -> bool:
    """Whether a word is to be read on `far`, on its way from another host, while the site is asked."""
    fleet.on("far", "command -v tcpdump >/dev/null || apt-get -qq -y install --no-install-recommends tcpdump >/dev/null 2>&1")
    fleet.on("far", f"systemd-run -q --unit=sniff tcpdump -i eth0 -s 0 -U -w /tmp/sniffed tcp port {port}; sleep 2")
    ask(fleet)
    ask(fleet, "/paddock/admin/preset", word="")
    fleet.on("far", "sleep 1; systemctl stop sniff")
    assert int(fleet.on("far", "stat -c %s /tmp/sniffed")) > 500, "nothing went by"
    return fleet.on("far", f"grep -qaF -e {shlex.quote(found)} /tmp/sniffed && echo yes || echo no").strip() == "yes"


def handshake(fleet: LabFleet, host: str, port: int, shown: str = "") -> tuple[bool, str]:
    """Whether a host is answered at `far` with what it shows, and what openssl says. The firewall lets both in meanwhile."""
    far = fleet.host("far").address
    request = r"(printf 'GET /health HTTP/1.0\r\n\r\n'; sleep 2)"
    said = fleet.on(host, f"{request} | timeout 10 openssl s_client -connect {far}:{port} {shown} 2>&1 || true")
    return "HTTP/1." in said, said


def until_answered(fleet: LabFleet) -> None:
    late = time.monotonic() + 60
    while not (said := ask(fleet)).endswith(" 200"):
        assert time.monotonic() < late, said
        time.sleep(0.5)


def test_a_client_is_answered_through_the_tunnel_and_the_next_run_changes_nothing(fleet: LabFleet) -> None:
    assert ask(fleet).endswith(" 200")
    assert ask(fleet, "/paddock/admin/preset", word="").endswith(" 200")
    assert '"demo"' in ask(fleet, "/v1/models", "phone", word="")
    done = fleet.up()
    assert done.stdout.count(" 0 changed") == 4, done.stdout


def test_nobody_reads_along_between_two_hosts(fleet: LabFleet) -> None:
    assert not sniffed(fleet, SECRET)
    assert not sniffed(fleet, fleet.on("far", "cat /etc/paddock/admin/key").strip(), 8079)


def test_what_is_not_to_be_encrypted_is_clear_text_and_plan_says_so(fleet: LabFleet) -> None:
    fleet.write(inventory(", encrypted: false"))
    done = fleet.up()
    words = "hosts.far.roles.llama_server: NOT ENCRYPTED: what door asks and gets is clear text"
    assert words in done.stdout + done.stderr, done.stdout + done.stderr
    assert sniffed(fleet, SECRET), "nothing would be found where it is clear text"
    fleet.write(inventory())
    fleet.up()
    assert not sniffed(fleet, SECRET)


def test_the_firewall_guards_the_tunnel_which_does_not_start_without_it(fleet: LabFleet) -> None:
    far = fleet.host("far").address
    assert "refused" in fleet.on("stray", f"curl -sS -k --max-time 5 https://{far}:8080/health 2>&1 || true").replace(
        "Could not", "refused"
    )
    fleet.on("far", "nft flush ruleset")
    assert fleet.on("far", "systemctl restart paddock-http-tunnel.socket 2>/dev/null && echo started || true") == ""
    assert ask(fleet).endswith(" 502")
    said = fleet.on("far", "journalctl -q --sync; journalctl -q -o cat -n 30 -u paddock-http-tunnel.socket")
    assert "cannot listen on port 8080/tcp: the firewall" in said, said
    fleet.up("--limit", "far", "--no-verify")
    until_answered(fleet)


def test_nobody_but_the_reverse_proxys_host_is_let_in(fleet: LabFleet) -> None:
    fleet.on("far", "nft insert rule inet paddock input tcp dport { 8079, 8080 } accept")  # as if there were no firewall
    own, client = f"-cert {DOOR}/host.pem -key {DOOR}/host.pem.key", "-cert /root/phone/cert.pem -key /root/phone/key.pem"
    for port in (8080, 8079):
        for shown in ("", client, own):
            let_in, said = handshake(fleet, "stray", port, shown)
            assert not let_in, f"{port} {shown}: {said}"
        assert handshake(fleet, "door", port, own)[0], "nobody would be let in"
        assert not fleet.on("stray", f"curl -s --max-time 5 http://{fleet.host('far').address}:{port}/health || true")
    assert ask(fleet).endswith(" 200")
    fleet.on("far", "systemctl reload paddock-firewall")


def heard(fleet: LabFleet, pair: str) -> str:
    """What the reverse proxy sends to who has taken the place of the server, with a certificate and its key."""
    at, tunnel = fleet.host("far").address, "paddock-http-tunnel.socket paddock-http-tunnel.service"
    fleet.on("far", "command -v socat >/dev/null || apt-get -qq -y install socat >/dev/null 2>&1")
    fleet.on("far", f"systemctl stop {tunnel}")
    try:
        fleet.on("far", f"printf %s {shlex.quote(pair)} >/root/thief.pem; touch /root/heard")
        listen = f"OPENSSL-LISTEN:8080,bind={at},reuseaddr,fork,cert=/root/thief.pem,verify=0"
        fleet.on("far", f"systemd-run -q --collect --unit=thief socat -u {listen} OPEN:/root/heard,append; sleep 2")
        assert not ask(fleet, check=False, wait_s=5).endswith(" 200")
        return fleet.on("far", "cat /root/heard")
    finally:
        fleet.on("far", f"systemctl stop thief; rm -f /root/thief.pem /root/heard; systemctl start {tunnel}")
        until_answered(fleet)


def test_who_has_taken_the_servers_place_hears_something_with_its_own_certificate_alone(fleet: LabFleet) -> None:
    assert SECRET not in heard(fleet, fleet.on("stray", f"cat {DOOR}/host.pem {DOOR}/host.pem.key"))
    own = fleet.on("far", f"cat {OWN}/host.pem {OWN}/host.pem.key")
    assert SECRET in heard(fleet, own), "nothing would be heard in any case"
    assert fleet.paddock("certs", "renew", "far", "--lab", "--yes").returncode == 0
    until_answered(fleet)
    assert SECRET not in heard(fleet, own)


def test_no_account_takes_a_port_of_the_tunnels(fleet: LabFleet) -> None:
    at, tunnels = fleet.host("far").address, "paddock-http-tunnel paddock-admin-tunnel"
    fleet.on("far", "command -v python3 >/dev/null || apt-get -qq -y install --no-install-recommends python3-minimal >/dev/null 2>&1")
    again = f"for i in 1 2 3; do systemctl reload {tunnels}; sleep 1; systemctl restart {tunnels}; sleep 0.5; done"
    places = [f"{address}:{port}" for port in (8080, 8079) for address in (at, "0.0.0.0")]
    assert stolen(fleet, "far", places, f"{again}; systemctl kill -s KILL {tunnels}; sleep 3") == 0
    fleet.on("far", f"systemctl restart {tunnels}")
    until_answered(fleet)


def test_no_account_takes_the_socket_by_which_the_reverse_proxy_calls(fleet: LabFleet) -> None:
    hops = " ".join(f"paddock-caddy-tunnel-far.{port}" for port in (8080, 8079))
    again = f"for i in 1 2 3; do systemctl reload {hops}; sleep 1; systemctl restart {hops}; sleep 0.5; done"
    fleet.on("door", "command -v python3 >/dev/null || apt-get -qq -y install --no-install-recommends python3-minimal >/dev/null 2>&1")
    places = [f"/run/paddock/hop-far.{port}.sock" for port in (8080, 8079)]
    assert stolen(fleet, "door", places, f"{again}; systemctl kill -s KILL {hops}; sleep 3") == 0
    fleet.on("door", f"systemctl restart {hops}; ls {' '.join(places)}")
    until_answered(fleet)


def test_a_tunnel_that_cannot_read_what_it_is_to_reads_goes_on_as_it_was(fleet: LabFleet) -> None:
    fleet.on("far", f"echo no key >{OWN}/host.pem.key; systemctl reload paddock-http-tunnel; sleep 2")
    assert ask(fleet).endswith(" 200")
    fleet.up()
    assert ask(fleet).endswith(" 200")
    assert fleet.up().stdout.count(" 0 changed") == 4


def test_certificates_are_renewed_while_clients_go_on_asking(fleet: LabFleet) -> None:
    before = fleet.on("far", f"sha256sum {OWN}/host.pem")
    run = fleet.start("certs", "renew", "far", "door", "--lab", "--yes")
    answers = []
    while run.poll() is None:
        answers.append(ask(fleet, "/health", word=""))
    answers.append(ask(fleet, "/health", word=""))
    assert run.returncode == 0, run.communicate()
    assert before != fleet.on("far", f"sha256sum {OWN}/host.pem")
    assert len(answers) > 2 and all(each.endswith(" 200") for each in answers), answers
    assert fleet.up().stdout.count(" 0 changed") == 4


@pytest.mark.parametrize("tunnel", ["http-tunnel", "admin-tunnel"])
def test_a_hosts_certificates_are_watched_on_the_host_that_is_called(fleet: LabFleet, tunnel: str) -> None:
    unit, at = f"paddock-expiry-{tunnel}", f"/etc/paddock/{tunnel}/host.pem"
    fleet.on("far", f"systemctl is-active {unit}.timer && systemctl start {unit}.service")
    fleet.on("far", f"mv {at} /root/kept.pem")
    try:
        assert fleet.on("far", f"systemctl start {unit}.service 2>/dev/null || echo failed").strip() == "failed"
        assert f"{at} is not there: `paddock up` puts it there" in fleet.paddock("status", "--lab").stdout
    finally:
        fleet.on("far", f"mv /root/kept.pem {at}; systemctl start {unit}.service")


@pytest.mark.parametrize("host", ["door", "far"])
def test_no_unit_of_either_end_is_more_exposed_than_2_0(fleet: LabFleet, host: str) -> None:
    assert fleet.exposed(host) == ""


def test_it_comes_up_again_whichever_part_is_killed(fleet: LabFleet) -> None:
    for host, unit in (("far", "paddock-http-tunnel"), ("door", "paddock-caddy-tunnel-far.8080"), ("far", "paddock-proxy-llama-server")):
        fleet.on(host, f"systemctl kill --signal=KILL {unit}.service")
        until_answered(fleet)
        if "tunnel" in unit:
            assert f"`systemctl reset-failed {unit}.service` there counts anew" in fleet.paddock("plan", "--lab").stdout
            fleet.on(host, f"systemctl reset-failed {unit}.service")
    fleet.on("far", "systemctl restart llama-server")
    until_answered(fleet)
    assert fleet.up().stdout.count(" 0 changed") == 4


def test_somebodys_own_haproxy_starts_and_stays_when_paddock_leaves(fleet: LabFleet) -> None:
    """The package is Paddock's on both hosts. On one of them its owner has begun to use it."""
    own, asked = (
        r"printf 'frontend mine\n  bind 127.0.0.1:9090\n  http-request return status 204\n'",
        "curl -s -w '%{http_code}' http://127.0.0.1:9090/",
    )
    assert fleet.on("other", "systemctl restart haproxy; systemctl is-active haproxy", check=False).strip() == "inactive"
    fleet.on("other", f"{own} >>/etc/haproxy/haproxy.cfg; systemctl restart haproxy")
    assert fleet.on("other", asked) == "204"
    fleet.write(inventory().replace("models: [demo]}\n  stray", "models: [demo], encrypted: false}\n  stray"))
    fleet.up()
    assert fleet.on("other", asked) == "204"
    assert "no packages found" in fleet.on("stray", "dpkg -s haproxy 2>&1 || echo no packages found")


def test_no_release_that_comes_or_goes_lets_in_again_who_was_revoked(fleet: LabFleet) -> None:
    """The last test here: the phone stays out."""
    running = "readlink /opt/paddock/llama.cpp/current"
    before = fleet.on("far", running)
    more = "llama_cpp: {accelerator: cpu, ui: false, programs: [llama-fit-params]}"
    fleet.write(inventory().replace("llama_cpp: {ui: false}", more, 1))
    fleet.up("--no-verify")
    assert fleet.on("far", running) != before
    assert ask(fleet, client="phone").endswith(" 200")
    assert fleet.paddock("certs", "revoke", "phone", "--lab").returncode == 0
    fleet.write(inventory())
    fleet.up("--no-verify")
    assert fleet.on("far", running) == before
    assert ask(fleet).endswith(" 200")
    assert ask(fleet, client="phone", check=False).endswith(" 000")
