"""inventory/ai-server.yml: three hosts, rehearsed, and every row of the system's troubleshooting table made impossible or found.

Rows that cannot come to be are shown on the plans, which is all that lands; those that somebody could still cause by hand are caused, on
the hosts of the lab, and found.
"""

from __future__ import annotations

import configparser
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from inventory.load import load
from lab import hosts as lab_hosts
from resources import File, OnDisk, Port, Resource, Service
from roles.client.settings import ClientSettings
from roles.firewall.plan import RULES
from roles.host_plan import HostPlan, host_plan
from tests.lab_fleet import ROOT, LabFleet, with_compilers
from tests.share import turn

pytestmark = turn(2, of=5)

INVENTORY = ROOT / "inventory" / "ai-server.yml"
REHEARSAL_S = 1800

PRESETS = "/etc/paddock/llama-server/presets.ini"
ROUTER = "/etc/systemd/system/llama-server.service"
CERTIFICATES = "/etc/paddock/clients/anna/certs"
POLICIES = ("/etc/chromium/policies/managed/paddock.json", "/etc/brave/policies/managed/paddock.json")

SYMPTOMS = (
    "pi: HTTP 400: request exceeds available context size",
    "pi: HTTP 400: File Not Found on /models/load",
    "certutil: unable to open root-ca.pem",
    "Brave: p12 import: invalid or corrupt file",
    "Brave: padlock is red, ChromeRootStoreEnabled: Error in brave://policy",
    "Cert selection prompt appears on every page load",
    "System trust, update-ca-trust, has no effect on Brave",
    "Model shows as [no model path] in /ai-server-status",
    "Chat first-token latency seems long",
)
"""The rows of the table, as the system's description has them."""


@dataclass(frozen=True)
class Plans:
    fleet: Fleet
    hosts: Mapping[str, HostPlan]
    ca: str

    def of(self, host: str) -> tuple[Resource, ...]:
        return tuple(each for part in self.hosts[host].values() for each in part)

    def text(self, host: str, path: str) -> str:
        (file,) = (each for each in self.of(host) if isinstance(each, File) and each.path == path)
        return file.data.decode()


def a_ca() -> str:
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA")]), datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def plans() -> Plans:
    fleet, knowledge = load(INVENTORY), Knowledge(ca=a_ca(), clients={"laptop": Certificate(TO_BE_ISSUED)})
    return Plans(fleet, {host.name: host_plan(host, fleet, knowledge) for host in fleet.hosts.values()}, knowledge.ca)


def test_each_port_of_the_ai_host_is_reached_by_the_gateway_and_nobody_else(plans: Plans) -> None:
    rules = plans.text("halo", RULES)
    open_to_others = [port for port in plans.of("halo") if isinstance(port, Port) and not port.addresses[0].startswith("127.")]
    assert {port.number for port in open_to_others} == {8080, 8079}
    for port in open_to_others:
        assert f"ip saddr {{ 192.0.2.2 }} tcp dport {port.number} accept" in rules
        assert f"tcp dport {port.number} reject" in rules


def the_router_has_no_option_that_could_cut_a_context_short(plans: Plans) -> None:
    """llama-server hands a router's own options down to every model; here all of them stand in the presets, a model's own last."""
    command = plans.text("halo", ROUTER).partition("ExecStart=")[2].partition("\n\n")[0]
    assert "--models-preset" in command
    assert not {"-c", "--ctx-size", "-ngl", "--n-gpu-layers", "--cache-type-k"} & set(command.split())
    sections = presets(plans)
    for name, model in plans.fleet.models.items():
        assert sections[name]["ctx-size"] == str(model.preset["ctx-size"])


def every_program_of_ours_names_the_model_as_llama_server_reads_it(plans: Plans) -> None:
    asking = [text for path, text in texts(plans, "laptop") if "/models/load" in text and path.endswith(".ts")]
    assert asking, "the extension, which loads models, is not there"
    assert all('"/models/load", { model: id }' in text and '"/models/unload", { model: id }' in text for text in asking)


def the_ca_lies_there_before_anything_reads_it(plans: Plans) -> None:
    resources = plans.of("laptop")
    landed = [each.path for each in resources if isinstance(each, OnDisk)]
    assert {f"{CERTIFICATES}/{name}" for name in ("root-ca.pem", "client.pem", "client-key.pem")} <= set(landed)
    places = [number for number, each in enumerate(resources) if isinstance(each, OnDisk) and each.path == f"{CERTIFICATES}/root-ca.pem"]
    readers = [number for number, each in enumerate(resources) if isinstance(each, Service) and "anna" in each.name]
    assert readers and max(places) < min(readers)


def no_file_goes_from_openssl_to_a_browser_by_hand(plans: Plans) -> None:
    """The account's own unit fills the database, and a machine that Paddock does not manage has a form for old programs to ask for."""
    assert "pk12util" in plans.text("laptop", "/etc/paddock/clients/anna/browsers.sh")
    assert not [each for each in plans.of("laptop") if isinstance(each, OnDisk) and each.path.endswith(".p12")]
    from cli import parser

    assert parser(("certs",)).parse_args(["certs", "export", "phone", "--legacy"]).legacy


def the_policy_is_the_one_that_took_its_place(plans: Plans) -> None:
    for path in POLICIES:
        policy = json.loads(plans.text("laptop", path))
        assert policy["CACertificates"] == ["".join(plans.ca.splitlines()[1:-1])]
        assert "ChromeRootStoreEnabled" not in policy


def the_policy_that_ends_the_question_is_well_formed_and_of_the_site(plans: Plans) -> None:
    for path in POLICIES:
        chosen = [json.loads(each) for each in json.loads(plans.text("laptop", path))["AutoSelectCertificateForUrls"]]
        assert chosen == [{"pattern": "https://ai.home.example", "filter": {"SUBJECT": {"CN": "laptop"}}}]


def the_sandboxs_own_database_is_filled_and_the_systems_trust_left_alone(plans: Plans) -> None:
    assert ".var/app/com.brave.Browser" in plans.text("laptop", "/etc/paddock/clients/anna/browsers.sh")
    everywhere = [each.path for host in plans.hosts for each in plans.of(host) if isinstance(each, OnDisk)]
    assert not [path for path in everywhere if path.startswith(("/usr/local/share/ca-certificates", "/etc/ssl/certs", "/etc/pki"))]


def no_section_of_the_presets_is_without_its_file(plans: Plans) -> None:
    sections = presets(plans)
    assert set(sections.sections()) - {"*"} == set(plans.fleet.models)
    laid = [each.path for each in plans.of("halo") if isinstance(each, OnDisk)]
    assert all(sections[name]["model"] in laid for name in plans.fleet.models)


IMPOSSIBLE: Mapping[str, Callable[[Plans], None]] = {
    SYMPTOMS[0]: the_router_has_no_option_that_could_cut_a_context_short,
    SYMPTOMS[1]: every_program_of_ours_names_the_model_as_llama_server_reads_it,
    SYMPTOMS[2]: the_ca_lies_there_before_anything_reads_it,
    SYMPTOMS[3]: no_file_goes_from_openssl_to_a_browser_by_hand,
    SYMPTOMS[4]: the_policy_is_the_one_that_took_its_place,
    SYMPTOMS[5]: the_policy_that_ends_the_question_is_well_formed_and_of_the_site,
    SYMPTOMS[6]: the_sandboxs_own_database_is_filled_and_the_systems_trust_left_alone,
    SYMPTOMS[7]: no_section_of_the_presets_is_without_its_file,
}
"""What nothing that Paddock does leads to, by what is so instead."""


@dataclass(frozen=True)
class Found:
    """What somebody does on a host, and who says what of it then."""

    host: str
    by_hand: str
    verb: str
    says: str


FOUND: Mapping[str, Found] = {
    SYMPTOMS[8]: Found("halo", "systemctl kill --signal=KILL llama-server; sleep 6", "models list", "minimax unloaded"),
    SYMPTOMS[0]: Found(
        "halo",
        f"sed -i 's|--models-max|-c 4096 --models-max|' {ROUTER}; systemctl daemon-reload; systemctl restart llama-server",
        "verify",
        "halo: llama_server every model answers with its own context",
    ),
    SYMPTOMS[2]: Found("laptop", f"rm {CERTIFICATES}/root-ca.pem", "verify", f"laptop: file:{CERTIFICATES}/root-ca.pem"),
    SYMPTOMS[5]: Found("laptop", f"sed -i s/AutoSelect/Auto/ {POLICIES[1]}", "verify", f"laptop: file:{POLICIES[1]}"),
    SYMPTOMS[7]: Found("halo", f"sed -i '/^model = .*minimax/d' {PRESETS}", "verify", f"halo: file:{PRESETS}"),
}


def presets(plans: Plans) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.read_string(plans.text("halo", PRESETS))
    return found


def texts(plans: Plans, host: str) -> Iterator[tuple[str, str]]:
    yield from ((each.path, each.data.decode()) for each in plans.of(host) if isinstance(each, File))


@pytest.mark.parametrize("symptom", IMPOSSIBLE)
def test_a_row_of_the_table_is_impossible(symptom: str, plans: Plans) -> None:
    IMPOSSIBLE[symptom](plans)


def test_no_row_was_forgotten() -> None:
    assert set(IMPOSSIBLE) | set(FOUND) == set(SYMPTOMS)


def test_a_model_that_nobody_described_is_refused_with_its_line(tmp_path: Path) -> None:
    inventory = tmp_path / "ai-server.yml"
    inventory.write_text(INVENTORY.read_text().replace("[qwen-35b, minimax]", "[qwen-35b, minimax, glm]"))
    done = LabFleet("ai-server", tmp_path).paddock("check", "-i", str(inventory))
    assert done.returncode == 2
    assert 'no model is called "glm": define it under models' in done.stderr


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """The fleet on lab hosts, on the processor, after `paddock rehearse`, which has brought it up and verified it."""
    fleet = LabFleet("edge-three", tmp_path_factory.mktemp("three"))
    lab_hosts.down(fleet.name)
    text = INVENTORY.read_text().replace("fleet: ai-server", f"fleet: {fleet.name}").replace("accelerator: vulkan", "accelerator: cpu")
    fleet.write(with_compilers(text))
    try:
        done = fleet.paddock("rehearse", "--keep", timeout_s=REHEARSAL_S)
        print(done.stdout[-6000:], flush=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        yield fleet
    finally:
        lab_hosts.down(fleet.name)


def test_its_three_hosts_come_up_in_a_lab_and_are_verified(rehearsed: LabFleet) -> None:
    assert {host.name for host in lab_hosts.list(rehearsed.name)} == {"halo", "door", "laptop"}
    assert "0 changed" in rehearsed.up().stdout


def test_who_sits_at_the_laptop_gets_a_completion_and_its_other_accounts_nothing(rehearsed: LabFleet) -> None:
    settings = load(INVENTORY).role("laptop", "client", ClientSettings)
    assert settings
    at = f"http://{settings.accounts['anna'].bridge}/v1/chat/completions"
    body = json.dumps({"model": "minimax", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4})
    ask = f"curl -sS -o /dev/null -w '%{{http_code}}' -H 'Content-Type: application/json' -d '{body}' {at}"
    key = ". /etc/paddock/clients/anna/bridge.env"
    rehearsed.on("laptop", f"cat >/tmp/ask <<'END'\n{key}; {ask} -H \"Authorization: Bearer $OPENAI_API_KEY\"\nEND")
    assert rehearsed.on("laptop", "runuser -u anna -- sh /tmp/ask") == "200"
    assert rehearsed.on("laptop", "runuser -u nobody -- sh /tmp/ask 2>/dev/null", check=False) != "200"
    assert rehearsed.on("laptop", f"runuser -u nobody -- {ask}") == "401"


def test_nobody_but_the_gateway_talks_to_llama_server_or_to_its_administration(rehearsed: LabFleet) -> None:
    halo = rehearsed.host("halo").address
    for port in (8080, 8079):
        refused = rehearsed.on("laptop", f"curl -sS --max-time 5 http://{halo}:{port}/ 2>&1", check=False)
        assert "connect" in refused and "Could not" in refused + "Could not" * ("Failed to" in refused), f"{port}: {refused}"
        assert subprocess.run(["curl", "-s", "--max-time", "5", f"http://{halo}:{port}/"], check=False).returncode == 7


def test_what_somebody_breaks_by_hand_is_found_and_mended(rehearsed: LabFleet) -> None:
    shown = {}
    for found in FOUND.values():
        rehearsed.on(found.host, f"sudo sh -c {shlex.quote(found.by_hand)}")
        if found.verb == "models list":
            shown[found.verb] = " ".join(rehearsed.paddock("models", "list", "--lab").stdout.split())
    verified = rehearsed.paddock("verify", "--lab")
    assert verified.returncode == 1
    shown["verify"] = verified.stdout + verified.stderr
    for symptom, found in FOUND.items():
        assert found.says in shown[found.verb], f"{symptom}: `paddock {found.verb}` does not say {found.says}:\n{shown[found.verb]}"
    rehearsed.paddock("up", "--lab", "--yes")
    rehearsed.paddock("restart", "halo", "--lab", "--yes")  # what somebody has started with another unit runs on until then
    mended = rehearsed.paddock("verify", "--lab")
    assert mended.returncode == 0, mended.stdout + mended.stderr


LOOK = "systemctl start paddock-expiry-caddy; systemctl show -P Result paddock-expiry-caddy"
TOLD = "journalctl --sync; journalctl -q -o cat -t paddock-notify"


def test_a_certificate_that_nears_its_end_fails_its_unit_is_shown_and_is_told_once(rehearsed: LabFleet) -> None:
    assert rehearsed.on("door", LOOK).strip() == "success"
    tell = 'logger --tag paddock-notify "$PADDOCK_HOST $PADDOCK_SERVER $PADDOCK_UNIT, as $(id -un): $PADDOCK_FAULT"'
    inventory = rehearsed.inventory.read_text()
    rehearsed.write(inventory.replace("      caddy:\n", f"      caddy:\n        expiry: {{days: 30, notify: {json.dumps(tell)}}}\n"))
    rehearsed.up()
    server, phone = "/etc/caddy/paddock/ai.home.example.pem", "/etc/caddy/paddock/clients/phone.pem"
    assert rehearsed.on("door", LOOK).strip() == "success"
    for path in (server, phone):
        rehearsed.on("door", f"openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=short -days 20 2>/dev/null >{path}")
    looked = [rehearsed.on("door", LOOK).strip() for _ in range(2)]
    assert looked == ["exit-code", "exit-code"], rehearsed.on("door", "journalctl -q -o short-precise -u 'paddock-expiry-*'")
    status = rehearsed.paddock("status", "--lab", "--limit", "door")
    assert status.returncode == 3
    for path in (server, phone):
        assert f"{path} ends in 19 days, on " in status.stdout
    assert "clients/laptop.pem ends" not in status.stdout
    said = rehearsed.on("door", TOLD).splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"door {server} paddock-expiry-caddy.service, as nobody: {server} ends in 19 days")
    rehearsed.write(inventory)
    rehearsed.up()
    assert rehearsed.on("door", LOOK).strip() == "success"
    assert rehearsed.paddock("status", "--lab", "--limit", "door").returncode == 0
