"""Browsers of people at a host open llama-server's page through mTLS, without a question; afterwards they cannot, and homes are as before.

`ann` begins with an empty home. `cara` has certificates, a Flatpak's settings and files of pi's of her own. `bob` is no client of anybody.
Pictures of the page are kept in build/browsers/.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from tests.edge.remote_browsers import ASKS, Browser, Chromium, Firefox
from tests.lab.snapshot import inside
from tests.lab_fleet import ROOT, LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

INVENTORY = """
fleet: seat
domain: home.example
networks: [192.0.2.0/24]
hosts:
  desk:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: true}
      models:
      llama_server: {models: [demo]}
      caddy: {sites: {ai.home.example: {upstream: desk, origins: ["http://localhost:3000"]}}}
      client:
        accounts:
          ann: {client: laptop, browsers: [chromium, firefox]}
          cara: {client: phone, browsers: [chromium, firefox, brave-flatpak]}
models: {demo: {preset: {ctx-size: 512}}}
clients: {laptop: , phone: }
"""

SITE = "https://ai.home.example/"
PAGE = "document.querySelector('textarea') && document.title"
ELSEWHERE = "http://localhost:3000/"
SERVES = "systemd-run --quiet --collect --unit=elsewhere python3 -m http.server --bind 127.0.0.1 --directory /srv 3000"
"""A page of another origin, as a person's own chat may be."""

# As OpenAI's client asks, which has the browser ask first whether it may.
CALLS = """(window.called ||= (window.told = "", fetch("https://ai.home.example/v1/chat/completions", {
  method: "POST", credentials: "include", body: JSON.stringify({model: "demo", max_tokens: 2, messages: [{role: "user", content: "Hi"}]}),
  headers: {"Authorization": "Bearer none", "Content-Type": "application/json", "User-Agent": "OpenAI/JS 5.0.0",
            "X-Stainless-OS": "Unknown", "X-Stainless-Retry-Count": "0"}})
  .then(answer => answer.json(), error => String(error)).then(read => window.told = read.object || String(read))), window.told)"""

TURNED_AWAY = (
    "net::ERR_BAD_SSL_CLIENT_AUTH_CERT",
    "net::ERR_SOCKET_NOT_CONNECTED",
    "net::ERR_CONNECTION_CLOSED",
    "net::ERR_CONNECTION_RESET",
)
"""With TLS 1.3 a browser may have written to the connection before it hears that it is refused."""

DATABASE = "/home/cara/.pki/nssdb"
OVERRIDE = "/home/cara/.local/share/flatpak/overrides/com.brave.Browser"
LOCKED = "/home/cara/.mozilla/firefox/locked.default"
POLICY = "/etc/chromium/policies/managed/paddock.json"

INSTALL = """
set -e; export DEBIAN_FRONTEND=noninteractive; apt-get -qq update
apt-get -qq -y install --no-install-recommends chromium firefox-esr fonts-dejavu-core libnss3-tools openssl >/dev/null
useradd --create-home bob
"""

# What cara has before Paddock comes: a CA of her own, a Firefox with a password, Flatpak's settings, and a file where a link will be.
CARAS_OWN = f"""
set -eu; cd /home/cara
mkdir -p .pki/nssdb .pi/agent/certs {LOCKED} {OVERRIDE.rpartition("/")[0]}
certutil -N -d sql:{DATABASE} --empty-password
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -out /root/own.pem -subj /CN=hers 2>/dev/null
certutil -A -d sql:{DATABASE} -n hers -t C,, -i /root/own.pem
echo secret >/root/password
certutil -N -d sql:{LOCKED} -f /root/password
printf '[Profile0]\\nName=default\\nIsRelative=1\\nPath=locked.default\\n' >.mozilla/firefox/profiles.ini
printf '[Context]\\nfilesystems=~/Pictures;\\nsockets=!x11;\\n' >{OVERRIDE}
echo hers >.pi/agent/certs/client.pem
chown -R cara: /home/cara
apt-get -qq -y purge libnss3-tools >/dev/null # the role brings them, and takes them away
"""

# Docker writes this file anew where a container starts.
NAME = "grep -q ai.home.example /etc/hosts || echo 127.0.0.1 ai.home.example >>/etc/hosts"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("seat")
    with lab_fleet("seat", tmp_path_factory.mktemp("seat"), INVENTORY, ready=True) as fleet:
        for script in (INSTALL, CARAS_OWN, NAME):
            fleet.on("desk", script)
        yield fleet


@pytest.fixture(scope="module")
def before(prepared: LabFleet) -> dict[str, list[str]]:
    return {account: lying(prepared, account) for account in ("ann", "cara")}


@pytest.fixture(scope="module")
def fleet(prepared: LabFleet, before: dict[str, list[str]]) -> LabFleet:
    done = prepared.paddock("up", "--lab", "--yes")  # the page itself may have to be built
    assert done.returncode == 0, done.stdout + done.stderr
    return prepared


def lying(fleet: LabFleet, account: str) -> list[str]:
    """All that lies in a home but what browsers keep for themselves: owner, mode and, of all but databases, what is in it."""
    script = r"find . -printf '%P %y %u %m %l\n'; find . -type f ! -name '*.db' -exec sha256sum {} +"
    lines = fleet.on("desk", f"cd /home/{account} && {{ {script}; }}").splitlines()
    return sorted(line for line in lines if not re.search(r"chromium|\.cache|\.config|^Downloads|^\.local(/share)? ", line))


def page(browser: Browser, name: str) -> str:
    """The title of the page, once there is something to type into. A picture is kept for whoever looks at the tests' results."""
    assert browser.open(SITE) == ""
    title = browser.find(PAGE)
    pictures = ROOT / "build/browsers"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / f"{name}.png").write_bytes(browser.picture())
    assert (pictures / f"{name}.png").stat().st_size > 5000
    return str(title)


def names_in(fleet: LabFleet, database: str) -> list[str]:
    listed = fleet.on("desk", f"certutil -L -d sql:{database} | sed -n 's/ *[^ ]*,[^ ]*,[^ ]* *$//p'").splitlines()
    return sorted(name for name in listed if name.strip())


def profile_of_ann(fleet: LabFleet) -> str:
    return fleet.on("desk", "dirname /home/ann/.*/mozilla/firefox/*/compatibility.ini").strip()


def test_chromium_opens_the_page_without_a_question(fleet: LabFleet) -> None:
    with Chromium(fleet, "desk", "ann") as browser:
        assert "llama" in page(browser, "chromium")


def test_firefox_opens_it_in_a_profile_that_it_has_only_just_made(fleet: LabFleet) -> None:
    with Firefox(fleet, "desk", "ann") as browser:
        noted = "grep -qs mozilla /home/ann/.local/state/paddock/client/databases"
        fleet.on("desk", f"for i in $(seq 200); do {noted} && break; sleep 0.3; done; while pgrep -u ann -x certutil; do sleep 0.3; done")
        assert "llama" in page(browser, "firefox")


@pytest.mark.parametrize("kind", [Chromium, Firefox])
def test_a_page_of_an_origin_that_the_site_names_talks_to_a_model(fleet: LabFleet, kind: type[Chromium] | type[Firefox]) -> None:
    fleet.on("desk", f"systemctl is-active --quiet elsewhere || {SERVES}; curl -fsS --retry 20 --retry-connrefused {ELSEWHERE}")
    with kind(fleet, "desk", "ann") as browser:
        assert browser.open(ELSEWHERE) == ""
        assert browser.find(CALLS) == "chat.completion"


def test_a_page_of_any_other_origin_does_not(fleet: LabFleet) -> None:
    with Chromium(fleet, "desk", "ann") as browser:
        assert browser.open(ELSEWHERE.replace("localhost", "127.0.0.1")) == ""
        assert browser.find(CALLS) == "TypeError: Failed to fetch"


def test_another_account_of_the_machine_has_nothing_to_present(fleet: LabFleet) -> None:
    with Chromium(fleet, "desk", "bob") as browser:
        assert browser.open(SITE) in TURNED_AWAY
    assert fleet.on("desk", "runuser -u bob -- cat /etc/paddock/clients/ann/certs/client.pem 2>/dev/null || true") == ""


def test_without_the_policy_a_browser_would_ask(fleet: LabFleet) -> None:
    fleet.on("desk", f"mv {POLICY} /root/policy")
    with Chromium(fleet, "desk", "cara") as browser:
        assert browser.open(SITE, within_s=20) == ASKS
    fleet.on("desk", f"mv /root/policy {POLICY}")
    with Chromium(fleet, "desk", "cara") as browser:
        assert browser.open(SITE, within_s=20) == ""


def test_a_second_run_finds_nothing_to_do(fleet: LabFleet) -> None:
    assert "0 changed" in fleet.up().stdout


def test_its_units_pass_systemds_own_check_without_a_word(fleet: LabFleet) -> None:
    units = "paddock-seat-ann.service paddock-browsers-ann.service paddock-browsers-ann.path paddock-profiles-ann.service"
    assert fleet.on("desk", f"cd /etc/systemd/system; systemd-analyze verify {units} 2>&1; echo $?").strip() == "0"


def test_what_somebody_has_of_their_own_stays_beside_it(fleet: LabFleet) -> None:
    ours = [name for name in names_in(fleet, DATABASE) if name.startswith("Paddock seat-lab ")]
    assert ours[1:] == ["Paddock seat-lab phone"] and ours[0].startswith("Paddock seat-lab CA ")
    assert [name for name in names_in(fleet, DATABASE) if name not in ours] == ["hers"]
    assert fleet.on("desk", f"cat {OVERRIDE}") == "[Context]\nfilesystems=/etc/brave:ro;~/Pictures;\nsockets=!x11;\n"
    assert names_in(fleet, "/home/cara/.var/app/com.brave.Browser/.pki/nssdb") == ours
    assert fleet.on("desk", "runuser -u cara -- head -n1 /home/cara/.pi/agent/certs/client.pem") == "-----BEGIN CERTIFICATE-----\n"


def test_a_database_with_a_password_of_its_own_is_told_and_holds_up_nothing(fleet: LabFleet) -> None:
    assert names_in(fleet, LOCKED) == []
    assert f"{LOCKED} takes nothing in, it asks for a password" in fleet.on(
        "desk", "journalctl -q --no-pager -o cat -u paddock-browsers-cara"
    )


def test_no_key_is_left_on_its_way_into_the_databases(fleet: LabFleet) -> None:
    assert fleet.on("desk", "find /run/paddock-browsers-ann /run/paddock-browsers-cara -type f") == ""


def test_a_renewed_certificate_takes_the_place_of_the_first(fleet: LabFleet) -> None:
    serial = f"certutil -L -d sql:{DATABASE} -n 'Paddock seat-lab phone' -a | openssl x509 -noout -serial"
    first = fleet.on("desk", serial)
    renewed = fleet.paddock("certs", "renew", "--lab", "--no-push", "phone")
    assert renewed.returncode == 0, renewed.stdout + renewed.stderr
    fleet.up()
    assert fleet.on("desk", serial) != first
    assert len([name for name in names_in(fleet, DATABASE) if name.endswith(" phone")]) == 1
    with Chromium(fleet, "desk", "cara") as browser:
        assert browser.open(SITE) == ""


def test_killed_while_it_fills_or_empties_databases_it_comes_to_the_same_end(fleet: LabFleet) -> None:
    names = names_in(fleet, DATABASE)
    kill = "systemctl kill -s KILL paddock-browsers-cara; systemctl reset-failed paddock-browsers-cara"
    for moment in ("0.03", "0.1", "0.2", "0.3", "0.4", "0.5", "0.7", "0.9"):
        fleet.on("desk", f"systemctl restart --no-block paddock-browsers-cara; sleep {moment}; {kill} 2>/dev/null || true")
    fleet.on("desk", "systemctl restart paddock-browsers-cara")
    assert names_in(fleet, DATABASE) == names
    with Chromium(fleet, "desk", "cara") as browser:
        assert browser.open(SITE) == ""


def test_a_machine_that_is_shut_down_keeps_what_is_in_homes(fleet: LabFleet) -> None:
    since = "stat -c '%i %W' /home/ann/.local/state/paddock/client /home/ann/.pi/agent/certs"
    made = fleet.on("desk", since).split()
    container = fleet.host("desk").container
    inside(container, "systemctl reboot")
    time.sleep(3)
    lab_hosts.up(load(fleet.inventory))
    inside(container, NAME)
    inside(container, "for i in $(seq 100); do curl -fsS 127.0.0.1:8080/health && break; sleep 0.3; done")
    assert inside(container, since).split() == made
    assert inside(container, "systemctl is-active paddock-seat-ann paddock-browsers-ann caddy").split() == ["active"] * 3
    with Chromium(fleet, "desk", "ann") as browser:
        assert browser.open(SITE) == ""


def test_who_leaves_the_inventory_has_nothing_of_it_any_more_and_all_that_was_theirs(fleet: LabFleet, before: dict[str, list[str]]) -> None:
    fleet.write("\n".join(line for line in INVENTORY.splitlines() if "cara:" not in line))
    fleet.up()
    assert lying(fleet, "cara") == before["cara"]
    assert names_in(fleet, DATABASE) == ["hers"]
    with Chromium(fleet, "desk", "cara") as browser:
        assert browser.open(SITE) in TURNED_AWAY


def test_where_nobody_sits_any_more_no_browser_opens_it_and_nothing_is_left(fleet: LabFleet, before: dict[str, list[str]]) -> None:
    profile = profile_of_ann(fleet)
    assert len(names_in(fleet, profile)) == 2
    fleet.write(re.sub(r"      client:\n.*?(?=^models)", "", INVENTORY, flags=re.DOTALL | re.MULTILINE))  # the site stays
    fleet.up()
    assert lying(fleet, "ann") == before["ann"]
    with Chromium(fleet, "desk", "ann") as browser:
        assert browser.open(SITE) == "net::ERR_CERT_AUTHORITY_INVALID"
    with Firefox(fleet, "desk", "ann") as browser:
        assert browser.open(SITE) == "insecure certificate"
    policies = "/etc/chromium/policies /etc/chromium-browser /etc/brave /etc/firefox /etc/firefox-esr/paddock.js"
    assert fleet.on("desk", f"ls -d {policies} /etc/paddock/clients /run/paddock-browsers-ann 2>/dev/null || true") == ""
    assert fleet.on("desk", "systemctl list-units --all --plain --no-legend 'paddock-*-ann*' 'paddock-*-cara*'") == ""
    fleet.on("desk", "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install libnss3-tools >/dev/null")  # Caddy's package brings it too
    assert names_in(fleet, profile) == []
