"""The admin endpoint beside a real router and an instance: whom it answers, what it changes, and what `plan` and `up` make of that."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=5)

INVENTORY = """
fleet: desk8
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        models: [small, large]
        models_max: 2
        preset: {ctx-size: 512}
        instances: {fixed: {model: lone, listen: '127.0.0.1:8090'}}
        api_key: true
      admin:
models:
  small: {}
  large: {preset: {temp: 0.5, ctx-size: 1024, top-k: 20}}
  lone: {preset: {ctx-size: 768}}
"""

PRESETS = "/etc/paddock/llama-server/presets.ini"
HEALTHY = "curl -fsS http://127.0.0.1:8080/health"
ENDPOINT = "http://127.0.0.1:8079/paddock/admin"
CHANGED = [f"file:{PRESETS}", "service:llama-server.service"]
MOST_EXPOSED = 1.6


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("desk8")
    with lab_fleet("desk8", tmp_path_factory.mktemp("desk8"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def said(self) -> Any:
        return json.loads(self.text)

    @property
    def why(self) -> str:
        return str(self.said["error"]["message"])


def secret(fleet: LabFleet, name: str) -> str:
    return fleet.paddock("secrets", "show", "--lab", name).stdout.strip()


def call(fleet: LabFleet, path: str, body: Any = None, *headers: str, key: str = "$(cat /etc/paddock/admin/key)") -> Answer:
    """As the reverse proxy passes it on: with the key, and with the client's name."""
    named = () if any(each.startswith("X-Paddock-Client") for each in headers) else ("X-Paddock-Client: laptop",)
    asked = [*named, *([f"Authorization: Bearer {key}"] if key else []), *headers]
    if body is not None and not any(each.startswith("Content-Type") for each in headers):
        asked += ["Content-Type: application/json", "X-Paddock-Request: 1"]
    options = " ".join(f'-H "{each}"' for each in asked)
    data = f"--data '{json.dumps(body)}'" if body is not None else ""
    done = fleet.on("ai", rf"curl -sS -w '\n%{{http_code}}' {options} {data} {ENDPOINT}{path}", check=False)
    text, _, status = done.rpartition("\n")
    return Answer(int(status), text)


def change(fleet: LabFleet, model: str, size: object) -> Answer:
    return call(fleet, "/ctx", {"model": model, "size": size})


def presets(fleet: LabFleet) -> str:
    return fleet.on("ai", f"cat {PRESETS}")


def context(fleet: LabFleet, model: str) -> int:
    """What the model's own process says, started for it where there is none."""
    key = secret(fleet, "api-key.ai")
    props = fleet.on("ai", f"curl -sS -H 'Authorization: Bearer {key}' 'http://127.0.0.1:8080/props?model={model}'")
    return int(json.loads(props)["default_generation_settings"]["n_ctx"])


def loaded(fleet: LabFleet) -> set[str]:
    key = secret(fleet, "api-key.ai")
    listed = json.loads(fleet.on("ai", f"curl -sS -H 'Authorization: Bearer {key}' http://127.0.0.1:8080/models"))["data"]
    return {each["id"] for each in listed if each["status"]["value"] == "loaded"}


def differing(fleet: LabFleet) -> list[str]:
    """The resources that `paddock plan` would change."""
    done = fleet.paddock("plan", "--lab", "--json")
    return sorted(each["resource"] for each in json.loads(done.stdout)["hosts"]["ai"])


def test_it_shows_the_presets_to_who_knows_the_key_and_to_nobody_else(fleet: LabFleet) -> None:
    assert call(fleet, "/preset") == Answer(200, presets(fleet))
    for wrong in ("", "wrong", secret(fleet, "api-key.ai")):
        for path, body in (("/preset", None), ("/ctx", {"model": "small", "size": 1024}), ("/restart", {}), ("/else", None)):
            refused = call(fleet, path, body, key=wrong)
            assert (refused.status, "reverse proxy" in refused.why) == (401, True)
    assert differing(fleet) == []


def test_a_web_page_changes_nothing_although_the_browser_has_the_certificate(fleet: LabFleet) -> None:
    """Caddy lets a browser with an administrator's certificate through, whichever page has made it ask."""
    body = {"model": "small", "size": 1024}
    for headers, status in (
        (("Content-Type: application/x-www-form-urlencoded",), 403),
        (("Content-Type: text/plain",), 403),
        (("Content-Type: application/json",), 403),
        (("X-Paddock-Request: 1", "Content-Type: text/plain"), 415),
        (("X-Paddock-Request: 1", "Content-Type: application/json", "Origin: https://evil.example"), 403),
        (("X-Paddock-Request: 1", "Content-Type: application/json", "Origin: null"), 403),
        (("X-Paddock-Request: 1", "Content-Type: application/json", "Sec-Fetch-Site: cross-site"), 403),
    ):
        assert call(fleet, "/ctx", body, *headers).status == status, headers
    assert call(fleet, "/preset", None, "Origin: https://evil.example").status == 403
    assert differing(fleet) == []


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "large", "size": "8192"}, 400, "whole number"),
        ({"model": "large", "size": 1024.5}, 400, "whole number"),
        ({"model": "large", "size": True}, 400, "whole number"),
        ({"model": "large", "size": -512}, 400, "256 to 131072"),
        ({"model": "large", "size": 255}, 400, "256 to 131072"),
        ({"model": "large", "size": 131073}, 400, "256 to 131072"),
        ({"model": "large"}, 400, "whole number"),
        ({"size": 1024}, 400, "model is the name"),
        ({"model": "nobody", "size": 1024}, 404, "the router has small, large"),
        ({"model": "*", "size": 1024}, 404, "the router has small, large"),
        ({"model": "lone", "size": 1024}, 409, "paddock models ctx lone SIZE"),
        ([1, 2], 400, "no JSON object"),
        ({"model": "x" * 5000, "size": 1024}, 413, "4096 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(fleet: LabFleet, asked: Any, status: int, words: str) -> None:
    refused = call(fleet, "/ctx", asked)
    assert refused.status == status and words in refused.why
    assert "# Changed by" not in presets(fleet)


def test_another_context_is_the_models_from_its_next_request_on_and_no_other_model_is_touched(fleet: LabFleet) -> None:
    assert (context(fleet, "small"), context(fleet, "large")) == (512, 1024)
    before = presets(fleet)
    done = change(fleet, "large", 2048)
    assert done.status == 200, done.text
    assert {**done.said, "note": ""} == {"model": "large", "ctx-size": 2048, "was": 1024, "note": ""}
    assert "`paddock up`" in done.said["note"] and "`paddock models ctx large 2048`" in done.said["note"]
    assert loaded(fleet) == {"small"}
    assert (context(fleet, "small"), context(fleet, "large")) == (512, 2048)
    noted = re.sub(r"# Changed by laptop, \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", "<note>", presets(fleet))
    assert noted == before.replace("ctx-size = 1024\n", "<note>ctx-size = 2048\n")
    assert fleet.on("ai", f"stat -c '%U:%G %a' {PRESETS}").strip() == "root:root 644"


def test_one_that_had_its_context_from_all_models_gets_one_of_its_own(fleet: LabFleet) -> None:
    assert call(fleet, "/ctx", {"model": "small", "size": 1280}, "X-Paddock-Client: phone").said["was"] == 512
    assert context(fleet, "small") == 1280
    assert "[*]\n" in presets(fleet) and "# Changed by phone, " in presets(fleet)


def test_plan_shows_the_changed_lines_and_up_puts_back_what_the_inventory_says(fleet: LabFleet) -> None:
    assert differing(fleet) == CHANGED
    shown = [line.strip() for line in fleet.paddock("plan", "--lab").stdout.splitlines()]
    print(*shown, sep="\n", flush=True)
    lines = [re.sub(", .*", "", line) for line in shown if re.match(r"[-+][#a-z]", line)]
    assert lines == ["-# Changed by phone", "-ctx-size = 1280", "-# Changed by laptop", "-ctx-size = 2048", "+ctx-size = 1024"]
    fleet.up()
    assert differing(fleet) == []
    assert (context(fleet, "small"), context(fleet, "large")) == (512, 1024)


def test_a_router_that_was_restarted_with_a_changed_context_is_restarted_by_up_too(fleet: LabFleet) -> None:
    """By whomever: its note would say that it runs what is declared."""
    assert change(fleet, "large", 2048).status == 200
    fleet.on("ai", f"systemctl restart llama-server; until {HEALTHY}; do sleep 0.2; done")
    assert context(fleet, "large") == 2048
    assert differing(fleet) == CHANGED
    fleet.up()
    assert context(fleet, "large") == 1024


def test_a_restart_is_of_all_servers_and_answers_when_they_do(fleet: LabFleet) -> None:
    units = ["llama-server.service", "llama-server-fixed.service"]
    began = "systemctl show -P InvocationID " + " ".join(units)
    before = fleet.on("ai", began).split()
    assert call(fleet, "/restart", {}).said == {"restarted": units}
    after = fleet.on("ai", began).split()
    assert not set(before) & set(after)
    for port in (8080, 8090):
        assert json.loads(fleet.on("ai", f"curl -sS http://127.0.0.1:{port}/health")) == {"status": "ok"}
    assert differing(fleet) == []


def test_a_server_that_does_not_come_up_is_told(fleet: LabFleet) -> None:
    dropin = "/run/systemd/system/llama-server-fixed.service.d/90-broken.conf"
    broken = "[Service]\\nExecStart=\\nExecStart=/bin/false\\n"
    fleet.on("ai", f"mkdir -p {dropin.rpartition('/')[0]}; printf '{broken}' >{dropin}; systemctl daemon-reload")
    try:
        failed = call(fleet, "/restart", {})
        assert failed.status == 500 and "llama-server-fixed.service" in failed.why, failed.text
    finally:
        fleet.on("ai", f"rm -r {dropin.rpartition('/')[0]}; systemctl daemon-reload")
    assert call(fleet, "/restart", {}).status == 200


def test_callers_at_the_same_time_come_one_after_another(fleet: LabFleet) -> None:
    sizes = range(1024, 1024 + 6 * 256, 256)
    with ThreadPoolExecutor(len(sizes)) as callers:
        answers = list(callers.map(lambda size: change(fleet, "large", size), sizes))
    assert [each.status for each in answers] == [200] * len(sizes), [each.text for each in answers]
    # Each found what another had left: in the order in which they came, a chain without a gap.
    changed = [each.said for each in answers if each.said["was"] != each.said["ctx-size"]]
    left = re.findall(r"ctx-size = (\d+)", presets(fleet))
    assert sorted([each["was"] for each in changed] + [int(left[-1])]) == sorted([1024, *(each["ctx-size"] for each in changed)])
    assert presets(fleet).count("# Changed by") == 1
    assert context(fleet, "large") == int(left[-1])


def test_while_a_deployment_is_at_work_nothing_is_changed(fleet: LabFleet) -> None:
    before = presets(fleet)
    holder = "nohup flock /run/paddock/lock sleep 45 >/dev/null 2>&1 & sleep 0.5"
    fleet.on("ai", holder)
    refused = change(fleet, "large", 4096)
    assert refused.status == 409 and "a deployment is changing this host" in refused.why
    assert presets(fleet) == before
    fleet.on("ai", "flock /run/paddock/lock true")


def test_killed_at_any_time_it_leaves_the_presets_whole_and_comes_back(fleet: LabFleet) -> None:
    def rest() -> str:
        return re.sub(r"(# Changed by [a-z]+, [0-9: -]+UTC\n)?ctx-size = \d+", "<context>", presets(fleet))

    whole = rest()
    assert whole.count("<context>") == 2
    for attempt in range(8):
        with ThreadPoolExecutor(1) as caller:
            asked = caller.submit(change, fleet, "large", 1024 + 256 * (attempt % 5))
            time.sleep(0.06 * attempt)
            fleet.on("ai", "systemctl kill --signal=KILL paddock-admin", check=False)
            assert asked.result().status in (200, 0)
        assert rest() == whole
        fleet.on("ai", f"for i in $(seq 100); do curl -sS -o /dev/null {ENDPOINT}/preset && exit; sleep 0.2; done; exit 1")
    assert fleet.on("ai", "find /etc/paddock/llama-server -name '.*'") == ""
    assert change(fleet, "large", 4096).status == 200
    assert context(fleet, "large") == 4096


def test_the_journal_says_who_did_what_and_no_key_is_anywhere_to_be_read(fleet: LabFleet) -> None:
    journal = fleet.on("ai", "journalctl -q --no-pager -o cat -u paddock-admin")
    assert re.search(r'^laptop: POST /ctx: 200 .*"model": "large", "ctx-size": 2048, "was": 1024', journal, re.MULTILINE), journal[-2000:]
    assert re.search(r"^phone: POST /ctx: 200 ", journal, re.MULTILINE)
    assert re.search(r"^somebody: GET /preset: 401 ", journal, re.MULTILINE), "a name is believed without the key"
    everywhere = fleet.on("ai", "journalctl -q --no-pager; ps axww -o args; systemctl show paddock-admin; systemctl cat paddock-admin")
    for name in ("admin.ai", "api-key.ai"):
        key = secret(fleet, name)
        assert len(key) > 40 and key not in everywhere
        environment = "for each in /proc/[0-9]*/environ; do tr '\\0' '\\n' <$each; done 2>/dev/null | grep -v ^LLAMA_API_KEY="
        assert key not in fleet.on("ai", environment, check=False)
    assert fleet.on("ai", "stat -c '%U %a' /etc/paddock/admin/key").strip() == "root 600"


def test_its_unit_is_as_tight_as_its_work_allows(fleet: LabFleet) -> None:
    verify = "systemd-analyze verify --recursive-errors=no paddock-admin.service llama-server.service 2>&1; echo exit $?"
    assert fleet.on("ai", verify).strip() == "exit 0"
    said = fleet.on("ai", "systemd-analyze security --no-pager paddock-admin.service")
    print(said, flush=True)
    exposure = re.search(r"exposure level for paddock-admin.service: ([0-9.]+)", said)
    assert exposure and float(exposure[1]) <= MOST_EXPOSED
    pid = fleet.on("ai", "systemctl show -P MainPID paddock-admin").strip()
    assert "CapEff:\t0000000000000000" in fleet.on("ai", f"cat /proc/{pid}/status")


def test_after_a_reboot_a_changed_context_is_still_there_and_still_in_the_plan(fleet: LabFleet) -> None:
    assert change(fleet, "large", 2048).status == 200
    inside(fleet.host("ai").container, "systemctl reboot")
    time.sleep(3)
    lab_hosts.up(load(fleet.inventory))
    inside(fleet.host("ai").container, f"for i in $(seq 100); do {HEALTHY} && break; sleep 0.3; done")
    assert context(fleet, "large") == 2048
    assert differing(fleet) == CHANGED


def test_up_and_verify_are_content_at_the_end(fleet: LabFleet) -> None:
    fleet.up()
    assert context(fleet, "large") == 1024
    done = fleet.paddock("verify", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_does_the_same_for_servers_that_are_an_accounts_own(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("api_key: true", "api_key: true\n        user: ai-server"))
    lab_hosts.up(load(fleet.inventory))
    fleet.up()
    assert differing(fleet) == []
    own = "runuser -u ai-server -- env XDG_RUNTIME_DIR=/run/user/$(id -u ai-server) systemctl --user show -P InvocationID llama-server"
    before = fleet.on("ai", own)
    done = change(fleet, "large", 2048)
    assert done.status == 200, done.text
    assert (context(fleet, "large"), fleet.on("ai", own)) == (2048, before)
    for _ in range(2):
        assert differing(fleet) == [f"file:{PRESETS}", "service:ai-server/llama-server.service"]
        done = call(fleet, "/restart", {})
        assert done.status == 200, done.text
    assert fleet.on("ai", own) != before
    fleet.up()
    assert (context(fleet, "large"), differing(fleet)) == (1024, [])


def test_a_host_without_the_role_has_nothing_left_of_it(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("      admin:\n", ""))
    fleet.up()
    files = "find /etc/paddock /etc/systemd/system /run/paddock -name '*admin*'"
    assert fleet.on("ai", files) == ""
    assert fleet.on("ai", "ss -Hltn 'sport = :8079'") == ""
    assert differing(fleet) == []
