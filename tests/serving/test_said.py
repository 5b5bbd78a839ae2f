"""What an inventory says of llama-servers beyond their models, as their processes have it: variables, secrets, lists, names."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

INVENTORY = """
fleet: said
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
        models: [demo]
        preset: {timeout: 7200, threads-http: 3, ctx-size: 512}
        environment: {OWN_WORDS: 'a "b" 50% $c', OWN_TOKEN: {secret: mine}}
        instances:
          fixed:
            model: demo
            listen: 127.0.0.1:8090
            environment: {OWN_WORDS: other}
            preset:
              samplers: [top_k, temperature]
              reverse-prompt: ["# User ", "a;b"]
              logit-bias: [5+1, 7-1]
models:
  demo:
    aliases: [a-name-before, zulu]
    preset: {override-kv: ["tokenizer.ggml.add_bos_token=bool:false", "tokenizer.ggml.add_eos_token=bool:false"]}
"""

SECRET = 'It\'s "Quetzal", `so` \\ $HOME #;'
DIRECTORY = "/etc/paddock/llama-server"
FILES = {unit: f"{DIRECTORY}/{unit}.env" for unit in ("llama-server", "llama-server-fixed")}
ASKED = {"model": "demo", "prompt": "Hello", "max_tokens": 2}


def keep(fleet: LabFleet, value: str) -> None:
    command = fleet.command("secrets", "set", "mine", "--lab")
    subprocess.run(command, cwd=fleet.product, env=fleet.env, input=value, text=True, check=True, capture_output=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("said")
    with lab_fleet("said", tmp_path_factory.mktemp("said"), INVENTORY, ready=True) as fleet:
        yield fleet


def ask(fleet: LabFleet, path: str, body: dict[str, Any] | None = None, port: int = 8080) -> Any:
    data = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
    return json.loads(fleet.on("ai", f"curl -sS {data} http://127.0.0.1:{port}{path}"))


def processes(fleet: LabFleet) -> dict[str, str]:
    """The router, its worker and the instance, each with its process."""
    router = fleet.on("ai", "systemctl show -P MainPID llama-server").strip()
    fixed = fleet.on("ai", "systemctl show -P MainPID llama-server-fixed").strip()
    return {"router": router, "worker": fleet.on("ai", f"pgrep --parent {router} --exact llama-server").strip(), "fixed": fixed}


def said(fleet: LabFleet, process: str, what: str) -> list[str]:
    return fleet.on("ai", f"tr '\\0' '\\n' </proc/{process}/{what}").splitlines()


def test_without_its_secret_a_host_is_refused_before_anything_is_touched(fleet: LabFleet) -> None:
    refused = fleet.paddock("up", "--lab", "--yes")
    assert refused.returncode == 1
    assert "there is no secret mine yet: `paddock secrets set mine`, of a lab with --lab" in refused.stderr
    assert fleet.on("ai", "ls -d /etc/paddock 2>/dev/null || true") == ""


def test_every_process_has_the_variables_of_its_server_and_the_secret_to_the_letter(fleet: LabFleet) -> None:
    keep(fleet, SECRET)
    fleet.up()
    assert ask(fleet, "/v1/completions", ASKED)["choices"]
    for name, process in processes(fleet).items():
        found = said(fleet, process, "environ")
        assert f"OWN_TOKEN={SECRET}" in found, name
        assert ("OWN_WORDS=other" if name == "fixed" else 'OWN_WORDS=a "b" 50% $c') in found, name


def test_the_secret_is_in_files_of_roots_and_nowhere_that_others_read(fleet: LabFleet) -> None:
    for file in FILES.values():
        assert fleet.on("ai", f"stat -c '%U %a' {file}").strip() == "root 600"
    for unit in FILES:
        assert "Quetzal" not in fleet.on("ai", f"systemctl show {unit}; systemctl cat {unit}")
    assert "Quetzal" not in "".join(line for process in processes(fleet).values() for line in said(fleet, process, "cmdline"))
    readable = "find /etc /opt /run /var/lib /tmp -xdev -type f -perm -o=r -size -1M -exec grep -lF Quetzal {} + || true"
    assert fleet.on("ai", readable) == ""


def test_the_router_takes_its_own_options_and_hands_them_on(fleet: LabFleet) -> None:
    found = processes(fleet)
    for process in (found["router"], found["worker"]):
        arguments = " ".join(said(fleet, process, "cmdline"))
        assert " --timeout 7200 " in f"{arguments} " and " --threads-http 3 " in f"{arguments} "
    assert "--ctx-size" not in said(fleet, found["router"], "cmdline")


def test_a_list_is_what_llama_server_reads_several_values_of(fleet: LabFleet) -> None:
    found = processes(fleet)
    for process in (found["worker"], found["fixed"]):
        arguments = said(fleet, process, "cmdline")
        listed = arguments[arguments.index("--override-kv") + 1]
        assert listed == "tokenizer.ggml.add_bos_token=bool:false,tokenizer.ggml.add_eos_token=bool:false"
    arguments = said(fleet, found["fixed"], "cmdline")
    assert [arguments[at + 1] for at, each in enumerate(arguments) if each == "--reverse-prompt"] == ["# User ", "a;b"]
    settings = ask(fleet, "/props", port=8090)["default_generation_settings"]["params"]
    assert settings["samplers"] == ["top_k", "temperature"]
    assert ask(fleet, "/v1/completions", ASKED, port=8090)["choices"]


def test_an_instance_lists_all_names_of_its_model_and_answers_to_each(fleet: LabFleet) -> None:
    (listed,) = ask(fleet, "/v1/models", port=8090)["data"]
    assert set(listed["aliases"]) == {"a-name-before", "demo", "zulu"}
    for name in ("demo", "zulu"):
        assert ask(fleet, "/v1/completions", {**ASKED, "model": name}, port=8090)["choices"]
    verified = fleet.paddock("verify", "--lab")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "demo" in fleet.paddock("models", "list", "--lab").stdout


def test_another_secret_restarts_the_servers_that_have_it_and_then_all_is_well(fleet: LabFleet) -> None:
    before = processes(fleet)
    keep(fleet, "another")
    fleet.up()
    assert ask(fleet, "/v1/completions", ASKED)["choices"]
    after = processes(fleet)
    assert after["router"] != before["router"] and after["fixed"] != before["fixed"]
    assert "OWN_TOKEN=another" in said(fleet, after["fixed"], "environ")
    assert "0 changed" in fleet.up().stdout


def test_when_nothing_is_said_any_more_nothing_is_left(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace(", OWN_TOKEN: {secret: mine}", ""))
    fleet.up()
    assert fleet.on("ai", f"ls {' '.join(FILES.values())} 2>/dev/null || true") == ""
    assert not [line for line in said(fleet, processes(fleet)["fixed"], "environ") if line.startswith("OWN_TOKEN")]
