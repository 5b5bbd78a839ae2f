"""The real pi on a person's machine: the fleet's models in it, a streamed answer over the bridge, and the commands of the extension."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import hosts as lab_hosts
from roles.role import TEMPLATES
from tests import npm
from tests.edge import real_pi
from tests.edge.real_pi import PACKAGE, THERE, VERSIONS, Frontend, Pi
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=5)

INVENTORY = """
fleet: pilot
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {models: [demo, endless], models_max: 1}
      admin:
      caddy: {sites: {ai.home.example: {upstream: ai}}}
  desk:
    address: 192.0.2.11
    roles:
      base: {time: elsewhere}
      client:
        accounts:
          anna: {client: laptop, bridge: '127.0.0.1:8399', pi: true}
          bob: {client: phone, bridge: '127.0.0.1:8400', pi: true}
models:
  demo: {preset: {ctx-size: 8192}}
  endless: {preset: {ctx-size: 32768, parallel: 1, ignore-eos: true}}
clients: {laptop: {admin: true}, phone: {}}
"""

FLEET = "pilot-lab"
"""What pi calls the provider."""

EXTENSION = TEMPLATES / "client/pi/ai-server"
ANSWER = "Hello from a tiny model: this host answers."
PRESETS = "/etc/paddock/llama-server/presets.ini"
COMMANDS = ["ctx", "load", "preset", "refresh", "restart", "status", "unload"]
NEWEST = list(VERSIONS)[-1]

PHANTOMS = """
[chat-00001-of-00003]
model = /var/lib/paddock/models/demo.gguf

[nothing]
ctx-size = 512
"""
"""A part of a model that llama-server takes for one, and an entry that there is nothing to load for."""

COMPLETE = """
import {{ discoverAndLoadExtensions }} from "{pi}";
const {{ extensions, errors }} = await discoverAndLoadExtensions([], "/tmp", process.env.HOME + "/.pi/agent");
if (errors.length || extensions.length !== 1) throw new Error(JSON.stringify(errors));
const [name, typed] = process.argv.slice(2);
const found = await extensions[0].commands.get(name).getArgumentCompletions(typed);
console.log(JSON.stringify((found ?? []).map((each) => each.value)));
"""


RELAY = """
import {{ relay }} from "{relay}";
const {{ url, key, close }} = await relay({{ url: "http://127.0.0.1:9", timeoutMs: 5000 }});
const ask = async (headers) => (await fetch(`${{url}}/v1/models`, {{ headers }})).status;
const of = (key) => ({{ authorization: `Bearer ${{key}}` }});
console.log(JSON.stringify({{ nobody: await ask({{}}), another: await ask(of("none")), pi: await ask(of(key)) }}));
close();
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_extension_is_as_pis_own_types_want_it(version: str, tmp_path: Path) -> None:
    assert real_pi.complaints(version, EXTENSION, tmp_path) == ""


def test_the_types_that_it_is_held_against_find_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    line = f'import type {{ ExtensionAPI }} from "{PACKAGE}";\nexport default (pi: ExtensionAPI) => pi.registerCommand("x", 1);\n'
    (tmp_path / "wrong/index.ts").write_text(line)
    (tmp_path / "work").mkdir()
    assert "TS2345" in real_pi.complaints(NEWEST, tmp_path / "wrong", tmp_path / "work")


def test_the_listener_that_carries_pis_streaming_answers_nobody_but_pi(tmp_path: Path) -> None:
    (tmp_path / "ask.mjs").write_text(RELAY.format(relay=EXTENSION / "relay.ts"))
    done = subprocess.run([npm.node(), tmp_path / "ask.mjs"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout or done.stderr) == {"nobody": 401, "another": 401, "pi": 502}  # nothing is behind it


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("pilot")
    with lab_fleet("pilot", tmp_path_factory.mktemp("pilot"), INVENTORY, ready=True) as fleet:
        real_pi.put(fleet, "desk")
        fleet.up()
        yield fleet


@pytest.fixture
def pi(fleet: LabFleet) -> Pi:
    return Pi(fleet, "desk", "anna", NEWEST)


@pytest.fixture
def anna(pi: Pi) -> Iterator[Frontend]:
    with pi.at_work() as frontend:
        yield frontend


@pytest.fixture
def phantoms(fleet: LabFleet) -> Iterator[None]:
    fleet.on("ai", f"cp -a {PRESETS} /root/kept; cat >>{PRESETS} <<'END'\n{PHANTOMS}END\nsystemctl restart llama-server")
    try:
        yield
    finally:
        fleet.on("ai", f"cp -a /root/kept {PRESETS}; systemctl restart llama-server")


def offered(pi: Pi) -> list[str]:
    """The models of the fleet in pi's own list, which the older version prints on standard error."""
    done = pi.run("--list-models")
    rows = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    return [row[1] for row in rows if row[:1] == [FLEET]]


def status(fleet: LabFleet) -> dict[str, str]:
    listed = json.loads(fleet.on("ai", "curl -sS http://127.0.0.1:8080/models"))["data"]
    return {each["id"]: each["status"]["value"] for each in listed}


def context(fleet: LabFleet, model: str) -> int:
    """What its worker says."""
    return int(json.loads(fleet.on("ai", f"curl -sS 'http://127.0.0.1:8080/props?model={model}'"))["default_generation_settings"]["n_ctx"])


def is_generating(fleet: LabFleet) -> bool:
    slots: list[dict[str, Any]] = json.loads(fleet.on("ai", "curl -sS 'http://127.0.0.1:8080/slots?model=endless'"))
    return any(each["is_processing"] for each in slots)


@contextmanager
def stopped(fleet: LabFleet, unit: str) -> Iterator[None]:
    fleet.on("desk", f"systemctl stop {unit}")
    try:
        yield
    finally:
        fleet.on("desk", f"systemctl start {unit}")


@pytest.mark.parametrize("version", VERSIONS)
def test_pi_offers_the_fleets_models_and_answers_over_the_bridge(fleet: LabFleet, version: str) -> None:
    pi = Pi(fleet, "desk", "anna", version)
    assert offered(pi) == ["demo", "endless"]
    done = pi.run("--provider", FLEET, "--model", "demo", "-p", "hi")
    assert (done.stdout.strip(), done.stderr) == (ANSWER, "")


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_no_administrator_has_the_same_models_with_the_same_contexts(fleet: LabFleet, version: str) -> None:
    found = {}
    for account in ("anna", "bob"):
        with Pi(fleet, "desk", account, version).at_work() as frontend:
            models = frontend.ask("get_available_models")[0]["data"]["models"]
        found[account] = {each["id"]: (each["contextWindow"], each["input"]) for each in models if each["provider"] == FLEET}
    assert found["anna"] == found["bob"] and found["bob"].keys() == {"demo", "endless"}


@pytest.mark.parametrize("version", VERSIONS)
def test_without_extensions_models_json_alone_is_enough(fleet: LabFleet, version: str) -> None:
    done = Pi(fleet, "desk", "anna", version).run("--no-extensions", "--provider", FLEET, "--model", "demo", "-p", "hi")
    assert done.stdout.strip() == ANSWER, done.stderr


def test_the_first_token_is_there_while_the_server_makes_the_next(fleet: LabFleet, pi: Pi) -> None:
    command = pi.command("--provider", FLEET, "--model", "endless", "--mode", "json", "-p", "Tell me a story.")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert any('"text_delta"' in line for line in process.stdout)
            assert is_generating(fleet)
        finally:
            fleet.on("desk", "pkill -u anna node", check=False)
    for _ in range(100):
        if not is_generating(fleet):  # who asked has gone
            return
        time.sleep(0.2)
    raise AssertionError("the model writes on, for nobody")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_seven_commands_are_there(fleet: LabFleet, version: str) -> None:
    with Pi(fleet, "desk", "anna", version).at_work() as frontend:
        commands = frontend.ask("get_commands")[0]["data"]["commands"]
    names = sorted(each["name"] for each in commands if each["name"].startswith("ai-server-"))
    assert names == [f"ai-server-{each}" for each in COMMANDS]
    assert all(each["description"] for each in commands)


def test_load_and_unload_wait_and_say_so_and_ask_before_somebody_loses_a_model(fleet: LabFleet, anna: Frontend) -> None:
    for model in [name for name, value in status(fleet).items() if value == "loaded"]:
        anna.type(f"/ai-server-unload {model}")
    loaded = anna.type("/ai-server-load demo")
    assert loaded.told == ["demo is loaded, with a context of 8192 tokens"]
    assert loaded.asked == [] and loaded.footer[0] == "loading demo … 0 s"
    refused = anna.type("/ai-server-load endless", confirm=False)
    assert refused.asked[0].startswith("Load endless? demo may have to make room") and refused.told == ["nothing was done"]
    assert status(fleet) == {"demo": "loaded", "endless": "unloaded"}
    assert anna.type("/ai-server-load endless").told == ["endless is loaded, with a context of 32768 tokens"]
    assert status(fleet) == {"demo": "unloaded", "endless": "loaded"}
    assert anna.type("/ai-server-unload endless", confirm=False).told == ["nothing was done"]
    assert anna.type("/ai-server-unload endless").told == ["endless is unloaded"]
    assert set(status(fleet).values()) == {"unloaded"}


def test_the_table_and_what_is_offered_have_no_parts_and_nothing_that_cannot_be_loaded(
    fleet: LabFleet, pi: Pi, anna: Frontend, phantoms: None
) -> None:
    assert "chat-00001-of-00003" in status(fleet)
    (table,) = anna.type("/ai-server-status").told
    assert [line.split(maxsplit=1) for line in table.splitlines()] == [
        ["model", "status           context"],
        ["demo", "unloaded         8192"],
        ["endless", "unloaded         32768"],
        ["nothing", "[no model path]  512"],
    ]
    assert anna.type("/ai-server-refresh").told == ["2 models: demo, endless"]
    assert anna.type("/ai-server-load nothing").told == ["nothing has no model path in the server's presets: there is nothing to load"]
    assert anna.type("/ai-server-load other").told == ["the server has no model other: it has demo, endless"]
    assert completed(pi, "load", "") == ["demo", "endless"]


def completed(pi: Pi, command: str, typed: str) -> list[str]:
    """What pi, which has loaded the extension itself, completes an argument with."""
    entry = f"{THERE}/{pi.version}/node_modules/{PACKAGE}/dist/index.js"
    pi.fleet.on("desk", f"cat >/tmp/complete.mjs <<'END'\n{COMPLETE.format(pi=entry)}END")
    words = f"runuser -u anna -- env -i HOME=/home/anna {THERE}/node /tmp/complete.mjs ai-server-{command} '{typed}'"
    return list(json.loads(pi.fleet.on("desk", words)))


def test_names_are_completed_with_what_the_server_has_at_that_moment(pi: Pi, anna: Frontend) -> None:
    anna.type("/ai-server-load demo")
    assert completed(pi, "load", "") == ["endless"]
    assert completed(pi, "unload", "") == ["demo"]
    assert completed(pi, "ctx", "") == ["demo", "endless"]
    assert completed(pi, "ctx", "e") == ["endless"]
    assert completed(pi, "ctx", "demo 8") == completed(pi, "status", "") == []


def test_an_administrator_sees_the_presets_and_changes_a_context(fleet: LabFleet, anna: Frontend) -> None:
    (preset,) = anna.type("/ai-server-preset").told
    assert "[demo]" in preset and "ctx-size = 8192" in preset
    anna.type("/ai-server-load demo")
    refused = anna.type("/ai-server-ctx demo 12k", confirm=False)
    (question,) = refused.asked
    assert question.startswith(
        "Set the ctx-size of demo to 12288? A conversation with it has 8192 tokens now. It is unloaded for everybody"
    )
    assert context(fleet, "demo") == 8192
    changed, loaded = anna.type("/ai-server-ctx demo 12k").told
    assert changed.startswith("demo: ctx-size is 12288, and was 8192\n") and "paddock up" in changed
    assert loaded == "demo is loaded, with a context of 12288 tokens"
    assert context(fleet, "demo") == 12288
    for wrong in ("none", "0", "-1", "1e3"):
        assert anna.type(f"/ai-server-ctx demo {wrong}").told == [f"{wrong} is no context in tokens, such as 32768 or 32k"]
    fleet.up()
    assert context(fleet, "demo") == 8192


def test_an_administrator_restarts_the_servers_and_waits_until_they_answer(fleet: LabFleet, anna: Frontend) -> None:
    script = "systemctl show --property=InvocationID --value llama-server"
    before = fleet.on("ai", script)
    assert anna.type("/ai-server-restart", confirm=False).told == ["nothing was done"]
    assert fleet.on("ai", script) == before
    assert anna.type("/ai-server-restart").told == ["restarted: llama-server.service"]
    assert fleet.on("ai", script) != before


def test_who_is_no_administrator_is_told_what_is_missing_and_nothing_changes(fleet: LabFleet) -> None:
    before = fleet.on("ai", f"cat {PRESETS}")
    with Pi(fleet, "desk", "bob", NEWEST).at_work() as bob:
        for command in ("preset", "ctx demo 4096", "restart"):
            said = bob.type(f"/ai-server-{command}")
            assert said.told == ["this client is no administrator: it needs `admin: true` in the fleet's inventory, and then `paddock up`"]
            assert said.kinds == ["error"]
        assert "demo" in bob.type("/ai-server-status").told[0]
        bob.type("/ai-server-unload demo")
        for command in ("load demo", "load endless"):
            told = "".join(bob.type(f"/ai-server-{command}").told)
            assert "Only administrators may ask for this" in told or "is loaded already" in told
    assert fleet.on("ai", f"cat {PRESETS}") == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_bridge_that_is_down_costs_one_line_and_pi_starts_with_what_was_served(fleet: LabFleet, version: str) -> None:
    pi = Pi(fleet, "desk", "anna", version)
    with stopped(fleet, "paddock-bridge-anna.service"):
        with pi.at_work() as frontend:
            answer, started = frontend.ask("get_available_models")
            assert [each["id"] for each in answer["data"]["models"] if each["provider"] == FLEET] == ["demo", "endless"]
            line = "nothing answers at http://127.0.0.1:8399: is the bridge of this account running?"
            assert started.told + frontend.type("/ai-server-load demo").told == [f"ai-server: {line}", line]
        assert offered(pi) == ["demo", "endless"]


def test_nothing_is_logged_unless_somebody_wants_it(pi: Pi) -> None:
    line = f"[ai-server] {FLEET}: demo, endless"
    assert line not in pi.run("--list-models").stderr
    assert line in pi.run("--list-models", PI_DEBUG="1").stderr


def test_with_an_address_of_its_own_pi_goes_there_by_the_certificate_and_needs_no_bridge(fleet: LabFleet, pi: Pi) -> None:
    fleet.on("desk", f"grep -q home.example /etc/hosts || echo {fleet.host('ai').address} ai.home.example >>/etc/hosts")
    site = "https://ai.home.example"
    with stopped(fleet, "paddock-bridge-anna.service"):
        done = pi.run("--provider", FLEET, "--model", "demo", "-p", "hi", AI_SERVER_URL=site, AI_SERVER_TIMEOUT_MS="60000")
        assert (done.stdout.strip(), done.stderr) == (ANSWER, "")
        with pi.at_work(AI_SERVER_URL=site) as frontend:
            assert "[demo]" in frontend.type("/ai-server-preset").told[0]
    with pi.at_work(AI_SERVER_URL=site, AI_SERVER_CERTS_DIR="/nowhere") as frontend:
        (told,) = frontend.type("/ai-server-status").told[-1:]
        assert told == "/nowhere/root-ca.pem cannot be read (ENOENT), and an https server asks for it: AI_SERVER_CA says where it lies"


def test_the_variables_that_ssh_wanted_are_told_to_mean_nothing(pi: Pi) -> None:
    with pi.at_work(AI_SERVER_SSH_HOST="ai@192.0.2.10") as frontend:
        told, _ = frontend.type("/ai-server-preset").told
        assert told == "AI_SERVER_SSH_HOST: not used, this goes through the admin endpoint of the site, without SSH"
        assert len(frontend.type("/ai-server-status").told) == 1
