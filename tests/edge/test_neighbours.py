"""Somebody else's sites, units, accounts and firewall on hosts of the fleet: they go on while Paddock comes, fails and leaves."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from edge_fleet import BOTH, VERSIONS, Door
from newer_caddy import newer_caddy

from tests.lab.snapshot import differing, inside, snapshot
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import spread, turn

pytestmark = turn(0, of=5)

HOSTS = ("old", "new")
CADDYFILE = "/etc/caddy/Caddyfile"
DROPIN = "/etc/systemd/system/caddy.service.d/theirs.conf"
SIX = {"old": "fd00:9:8::10", "new": "fd00:9:8::11", "halo": "fd00:9:8::3"}

BLOCKED = 8444
"""A port that a process has bound and does not listen on: only whoever wants it finds out."""

INVENTORY = {
    "fleet": "beside",
    "domain": "home.example",
    "hosts": {
        "halo": {
            "address": "192.0.2.3",
            "roles": {
                "base": {"time": "elsewhere"},
                "llama_cpp": {"ui": False},
                "models": None,
                "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo"]},
            },
        },
        **{
            name: {
                "address": f"192.0.2.{at}",
                "roles": {
                    "base": {"time": "elsewhere", "accepted_units": [DROPIN]},
                    "caddy": {"shared": True, "sites": {f"{name}.home.example": {"upstream": "halo"}}},
                },
            }
            for at, name in enumerate(HOSTS, 10)
        },
    },
    "models": {"demo": {"preset": {"ctx-size": 512}}},
    "clients": {"laptop": None},
}


@dataclass(frozen=True)
class Kind:
    """A Caddyfile of somebody else's, and what is asked of it: URL and answer. `{four}` and `{six}` are the host's addresses."""

    text: str
    asked: tuple[tuple[str, str], ...]
    at: tuple[str, ...] = ("127.0.0.1", "[::1]", "{four}", "[{six}]")
    listen: tuple[str, ...] = ()


SENT_ON = ("http://theirs.home.example/", "308")

KINDS = {
    "everywhere": Kind(
        "{\n\tskip_install_trust\n}\ntheirs.home.example {\n\ttls internal\n\trespond theirs\n}\n",
        (("https://theirs.home.example/", "theirs"), SENT_ON),
    ),
    "on another port": Kind(
        "{\n\tskip_install_trust\n}\ntheirs.home.example:8443 {\n\ttls internal\n\trespond theirs\n}\n",
        (("https://theirs.home.example:8443/", "theirs"), SENT_ON),
    ),
    "of many files": Kind(
        "{\n\temail me@home.example\n\tservers {\n\t\ttimeouts {\n\t\t\tidle 1m\n\t\t}\n\t}\n}\n(files) {\n\troot * /srv/theirs\n\tfile_server\n}\n"
        "import sites/*\n",
        (("http://theirs.home.example/hello", "theirs"),),
    ),
    "at single addresses": Kind(
        "{{\n\tskip_install_trust\n\tdefault_bind {four}\n}}\ntheirs.home.example {{\n\ttls internal\n\trespond theirs\n}}\n"
        "six.home.example {{\n\tbind {six}\n\ttls internal\n\trespond six\n}}\n",
        (("https://theirs.home.example/", "theirs"), SENT_ON),
        at=("{four}",),
        listen=("192.0.2.10:443",),
    ),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    inventory = json.loads(json.dumps(INVENTORY))
    inventory["hosts"]["new"]["roles"]["caddy"]["package"] = newer_caddy()
    with lab_fleet("beside", tmp_path_factory.mktemp("beside"), yaml.safe_dump(inventory), ready=True) as fleet:
        for host in SIX:
            six = f"sysctl -q net.ipv6.conf.all.disable_ipv6=0; ip -6 address replace {SIX[host]}/64 dev eth0 nodad"
            inside(fleet.host(host).container, six)
        fetched = "apt-get -qq update && apt-get -qq -y install curl >/dev/null 2>&1 && curl -fsSo /tmp/caddy.deb {} && "
        package = {"old": "caddy", "new": "/tmp/caddy.deb"}
        for host in HOSTS:
            inside(
                fleet.host(host).container, f"{fetched.format(newer_caddy()['url'])} apt-get -qq -y install {package[host]} >/dev/null 2>&1"
            )
            inside(
                fleet.host(host).container,
                f"mkdir -p {DROPIN.rpartition('/')[0]} /etc/caddy/sites /srv/theirs; groupadd -f theirs; usermod -aG theirs caddy; "
                f"printf '[Service]\\nEnvironment=\"THEIRS=http://theirs.home.example\"\\n' >{DROPIN}; systemctl daemon-reload; "
                "printf '{$THEIRS} {\\n\\timport files\\n}\\n' >/etc/caddy/sites/one; "
                "printf theirs >/srv/theirs/hello; chgrp -R theirs /srv/theirs; chmod 750 /srv/theirs",
            )
        yield fleet


@dataclass(frozen=True)
class Theirs:
    """Somebody else's sites on a host."""

    fleet: LabFleet
    host: str
    kind: Kind

    @property
    def text(self) -> str:
        text = self.kind.text
        return self._filled(text) if "{{" in text else text

    def _filled(self, text: str) -> str:
        return text.format(four=self.fleet.host(self.host).address, six=SIX[self.host])

    def begin(self) -> None:
        self.fleet.on(self.host, f"printf %s {shlex.quote(self.text)} >{CADDYFILE}; systemctl restart caddy")
        until = time.monotonic() + 30
        while (missed := self.missed()) and time.monotonic() < until:  # it makes its certificates first
            time.sleep(0.5)
        assert not missed

    @property
    def asking(self) -> str:
        """A shell script that prints a line for each question without its answer.

        Each is asked twice: of two sockets at the moment of a reload, Caddy closes one, with the connections that nobody has accepted yet.
        """
        lines = []
        for at in map(self._filled, self.kind.at):
            for url, answer in self.kind.asked:
                name, port = url.split("/")[2].partition(":")[0], url.split("/")[2].partition(":")[2] or ("80" if url[4] == ":" else "443")
                what = "-o /dev/null -w '%{http_code}'" if answer.isdecimal() else ""
                ask = f"curl -sk --max-time 5 {what} --resolve {shlex.quote(f'{name}:{port}:{at}')} {url}"
                lines.append(f'said=$({ask}) || said=$({ask}) || true; [ "$said" = {answer} ] || echo "{url} at {at}: $said"')
        return "\n".join(lines)

    def missed(self) -> str:
        return self.fleet.on(self.host, self.asking)

    def ask_on(self) -> None:
        """Again and again, until `asked_meanwhile`."""
        script = f"while :; do\n( {self.asking}\n) >>/root/missed\necho >>/root/rounds\nsleep 0.05\ndone\n"
        self.fleet.on(
            self.host, f"printf %s {shlex.quote(script)} >/root/ask; systemctl -q stop asks 2>/dev/null; rm -f /root/missed /root/rounds"
        )
        self.fleet.on(self.host, "systemd-run --quiet --collect --unit=asks sh /root/ask")

    def asked_meanwhile(self) -> tuple[int, list[str]]:
        """How often all was asked, and what had no answer."""
        self.fleet.on(self.host, "sleep 1; systemctl stop asks")
        return int(self.fleet.on(self.host, "wc -l </root/rounds")), self.fleet.on(self.host, "cat /root/missed").splitlines()

    def starts(self) -> int:
        """How often systemd has started Caddy."""
        return int(self.fleet.on(self.host, "journalctl -q --sync; journalctl -q -u caddy -o cat | grep -c '^Started caddy'"))


def answers(fleet: LabFleet, host: str) -> bool:
    """Whether the fleet's site admits its client. (Nothing is behind it: halo is not part of these runs.)"""
    door = Door.of(fleet, host)
    return door.ask("GET", "/health", door.context(VERSIONS[1], door.identity("laptop")))[0] == 502


def with_listen(fleet: LabFleet, *listen: str, hosts: tuple[str, ...] = HOSTS) -> None:
    inventory = yaml.safe_load(fleet.inventory.read_text())
    for host in hosts:
        inventory["hosts"][host]["roles"]["caddy"]["listen"] = list(listen)
    fleet.write(yaml.safe_dump(inventory))


LIMIT = ("--limit", "old", "--limit", "new")


@pytest.mark.parametrize("kind", spread("neighbours", list(KINDS), 2))
def test_sites_of_somebody_elses_answer_before_during_and_after(fleet: LabFleet, kind: str) -> None:
    theirs = {host: Theirs(fleet, host, KINDS[kind]) for host in HOSTS}
    for each in theirs.values():
        each.begin()
    with_listen(fleet, "0.0.0.0:443", hosts=("old",))
    with_listen(fleet, *BOTH, hosts=("new",))
    if KINDS[kind].listen:
        refused = fleet.paddock("plan", "--lab", *LIMIT)
        for host in HOSTS:
            assert f"{host}: its Caddyfile listens on {fleet.host(host).address}:443, and would take callers of" in refused.stderr
        assert f'set roles.caddy.listen to ["{fleet.host("old").address}:443"' in refused.stderr
        assert fleet.paddock("up", "--lab", "--yes", *LIMIT).returncode == 1
        assert [fleet.on(host, f"cat {CADDYFILE}; ls /etc/caddy") for host in HOSTS] == [
            f"{each.text}Caddyfile\nsites\n" for each in theirs.values()
        ]
        with_listen(fleet, *KINDS[kind].listen)

    planned = json.loads(fleet.paddock("plan", "--lab", "--json", *LIMIT).stdout)["hosts"]
    actions = {host: [each["action"] for each in planned[host] if each["resource"] == "service:caddy.service"] for host in HOSTS}
    assert actions == {"old": ["restart"], "new": ["reload"]}
    before = {host: each.starts() for host, each in theirs.items()}
    for each in theirs.values():
        each.ask_on()
    fleet.up(*LIMIT, "--no-verify")
    for host, each in theirs.items():
        rounds, missed = each.asked_meanwhile()
        print(f"{kind} on {host}: {rounds} rounds, {len(missed)} without an answer", flush=True)
        assert rounds > 5 and len(missed) < rounds
        assert (each.starts() - before[host], bool(missed) and host == "new") == (1 if host == "old" else 0, False), missed
        assert (each.missed(), answers(fleet, host)) == ("", True)
    assert "0 changed" in fleet.up(*LIMIT, "--no-verify").stdout

    blocker = f"use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in({BLOCKED}, INADDR_ANY)) or die; sleep"
    for host in HOSTS:
        fleet.on(host, f"systemd-run --quiet --collect --unit=blocks perl -e {shlex.quote(blocker)}; sleep 0.5")
    with_listen(fleet, f"0.0.0.0:{BLOCKED}")
    failed = fleet.paddock("up", "--lab", "--yes", *LIMIT)
    assert failed.returncode == 1
    for host in HOSTS:
        assert f"{host}: service:caddy.service: did not come up: " in failed.stderr, failed.stderr
    assert failed.stderr.count("its files are as they were before, and it runs with them") == 2
    for host, each in theirs.items():
        assert (each.missed(), answers(fleet, host)) == ("", True)
        fleet.on(host, "systemctl stop blocks; systemctl restart caddy")
        assert (each.missed(), answers(fleet, host)) == ("", True)
        assert fleet.on(host, "find /var/lib/paddock/kept -mindepth 1; id -Gn caddy") == "caddy www-data theirs\n"

    done = fleet.paddock("teardown", "--lab", "--yes", *LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    for host, each in theirs.items():
        assert each.missed() == ""
        assert fleet.on(host, f"cat {CADDYFILE}; ls /etc/caddy") == f"{each.text}Caddyfile\nsites\n"


def test_a_site_of_the_fleet_that_caddy_refuses_is_undone_before_anything_reads_it(fleet: LabFleet) -> None:
    """It has the name of a site that no plan sees: it is imported from elsewhere."""
    second = "second.home.example {\n\ttls internal\n\trespond second\n}\n"
    for host in HOSTS:
        Theirs(fleet, host, KINDS["everywhere"]).begin()
        fleet.on(host, f"echo 'import /srv/hidden/*' >>{CADDYFILE}; mkdir -p /srv/hidden; systemctl reload-or-restart caddy")
    with_listen(fleet, "0.0.0.0:443")
    fleet.up(*LIMIT, "--no-verify")
    before = fleet.inventory.read_text()
    inventory = yaml.safe_load(before)
    for host in HOSTS:
        fleet.on(host, f"printf %s {shlex.quote(second)} >/srv/hidden/second")
        inventory["hosts"][host]["roles"]["caddy"]["sites"]["second.home.example"] = {"upstream": "halo"}
    for host in HOSTS:
        process = fleet.on(host, "systemctl show -P InvocationID caddy")
        fleet.write(yaml.safe_dump({**inventory, "hosts": {**yaml.safe_load(before)["hosts"], host: inventory["hosts"][host]}}))
        failed = fleet.paddock("up", "--lab", "--yes", "--limit", host)
        assert f"{host}: service:caddy.service: its configuration is refused, so it was left as it is: " in failed.stderr
        assert fleet.on(host, "systemctl show -P InvocationID caddy") == process
        fleet.on(host, "systemctl restart caddy")
        assert Theirs(fleet, host, KINDS["everywhere"]).missed() == "" and answers(fleet, host)
    fleet.write(before)
    for host in HOSTS:
        fleet.on(host, f"rm -r /srv/hidden; sed -i '/hidden/d' {CADDYFILE}")
    assert fleet.paddock("teardown", "--lab", "--yes", *LIMIT).returncode == 0


def test_a_revocation_restarts_a_caddy_that_others_use_and_nothing_else_does(fleet: LabFleet) -> None:
    theirs = Theirs(fleet, "new", KINDS["everywhere"])
    theirs.begin()
    before = fleet.inventory.read_text()
    with_listen(fleet, *BOTH, hosts=("new",))
    for clients, starts in ({"laptop": None}, 0), ({"laptop": None, "phone": None}, 0), ({"laptop": None}, 1):
        so_far = theirs.starts()
        fleet.write(yaml.safe_dump({**yaml.safe_load(fleet.inventory.read_text()), "clients": clients}))
        fleet.up("--limit", "new", "--no-verify")
        assert theirs.starts() - so_far == starts, clients
        assert (theirs.missed(), answers(fleet, "new")) == ("", True)
    assert fleet.paddock("teardown", "--lab", "--yes", "--limit", "new").returncode == 0
    fleet.write(before)


ANSWERS = (
    "use IO::Socket::INET; $l = IO::Socket::INET->new(LocalAddr => q(127.0.0.1), LocalPort => shift, Listen => 5, ReuseAddr => 1) or die;"
)
ANSWERS += r" while ($c = $l->accept) { print $c qq(HTTP/1.0 200 OK\r\n\r\ntheirs); close $c }"
UNIT = "[Service]\nExecStart=/usr/bin/perl /opt/theirs/answers {}\n[Install]\nWantedBy=multi-user.target\n"
RULES = """flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state established,related accept
		tcp dport 22 accept
		meta l4proto ipv6-icmp accept
	}
}
"""


def test_units_accounts_files_and_a_firewall_of_somebody_elses_stay_and_come_back(fleet: LabFleet) -> None:
    container = fleet.host("halo").container
    for name, port in (("theirs", 8080), ("llama-server", 8081)):
        unit = shlex.quote(UNIT.format(port))
        inside(container, f"mkdir -p /opt/theirs; printf %s {shlex.quote(ANSWERS)} >/opt/theirs/answers")
        inside(container, f"printf %s {unit} >/etc/systemd/system/{name}.service; systemctl enable -q --now {name}")
    inside(container, "id paddock || useradd --create-home --shell /bin/bash paddock; apt-get -qq -y install nftables >/dev/null 2>&1")
    inside(container, f"printf %s {shlex.quote(RULES)} >/etc/nftables.conf; systemctl enable -q --now nftables")
    rules, before = inside(container, "nft list ruleset"), snapshot(container)

    told = "halo: port 8080/tcp, which paddock-proxy-llama-server.socket is to listen on, is taken by theirs.service: "
    told += "stop it, or set another port in roles.llama_server"
    for verb in ("plan", "up"):
        refused = fleet.paddock(verb, "--lab", "--limit", "halo", *(("--yes",) if verb == "up" else ()))
        assert refused.returncode == 1 and told in refused.stderr, refused.stderr
    assert differing(before.files, snapshot(container).files) == {}

    text = fleet.inventory.read_text()
    fleet.write(text.replace("0.0.0.0:8080", "0.0.0.0:8090"))
    planned = fleet.paddock("plan", "--lab", "--limit", "halo").stdout
    assert "nftables' chain inet filter input drops what no rule accepts, and no rule names 8090/tcp" in planned
    fleet.up("--limit", "halo", "--no-verify")
    assert "0 changed" in fleet.up("--limit", "halo", "--no-verify").stdout
    during = snapshot(container)
    assert during.running["theirs.service"] == before.running["theirs.service"]
    assert inside(container, "curl -sS http://127.0.0.1:8080/; nft list ruleset") == f"theirs{rules}"
    assert inside(container, "curl -fsS http://127.0.0.1:8090/health")

    done = fleet.paddock("teardown", "--lab", "--yes", "--data", "--limit", "halo")
    assert done.returncode == 0, done.stdout + done.stderr
    after = snapshot(container)
    assert after.running["theirs.service"] == before.running["theirs.service"]
    assert inside(container, "curl -sS http://127.0.0.1:8081/; nft list ruleset") == f"theirs{rules}"
    for aspect in ("unit_files", "users", "groups", "listening"):
        assert differing(getattr(before, aspect), getattr(after, aspect)) == {}, aspect
    left = set(differing(before.files, after.files)) - {"/etc/ld.so.cache", "/etc/hosts"}
    assert {path for path in left if not path.endswith("-")} == set()
    fleet.write(text)
