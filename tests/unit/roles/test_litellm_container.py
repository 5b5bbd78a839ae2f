"""LiteLLM in a container: the same configuration as natively, and what a container cannot have is refused in words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from litellm_fleet import MASTER, SALT, SERVERS, Fronted
from pydantic import ValidationError

from control.deployment.knowledge import knowledge_of_inventory
from inventory.errors import InventoryError
from inventory.load import load
from resources import File, Stack
from roles.langfuse.settings import KEY, secret_name
from roles.litellm.container import VARIABLES
from roles.litellm.plan import CONFIGURATION, UNIT, remarks
from roles.litellm.settings import MODULES, LitellmSettings, master_key_name
from roles.tracing import public_key

IMAGE = f"ghcr.io/berriai/litellm:main-stable@sha256:{'5eed' * 16}"
TRACES = "sk-of-langfuses-first-project-alone"
DIRECTORY = "/etc/paddock/stacks/litellm"

FLEET = """\
fleet: demo
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp:
      models:
      llama_server: {{models: [qwen]{more}}}
      {docker}
      litellm: {{runtime: container{said}}}
models:
  qwen:
"""


def contained(**settings: Any) -> Fronted:
    fronted = Fronted(**{"image": IMAGE, "runtime": "container"} | settings)
    fronted.small.roles["one"]["docker"] = {}
    return fronted


def definition(fronted: Fronted) -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(fronted.text(f"{DIRECTORY}/compose.yml"))["services"]["litellm"]
    return said


def stack_of(fronted: Fronted) -> Stack:
    found = fronted.plan["stack:litellm"]
    assert isinstance(found, Stack)
    return found


def told(tmp_path: Path, said: str = "", docker: str = "docker:", more: str = "") -> list[str]:
    path = tmp_path / "home.yml"
    path.write_text(FLEET.format(said=said, docker=docker, more=more))
    try:
        load(path)
    except InventoryError as error:
        return list(error.problems)
    return []


def test_one_word_makes_it_a_stack_with_the_configuration_that_it_has_natively() -> None:
    native, fronted = contained(runtime="native"), contained()
    assert native.text(CONFIGURATION) == fronted.text(f"{DIRECTORY}/config.yaml")
    mine = {"file:/etc/systemd/system/" + UNIT, f"service:{UNIT}", "venv:/opt/paddock/litellm", "user:paddock-litellm"}
    assert mine <= native.plan.keys() and "stack:litellm" not in native.plan
    assert not mine & fronted.plan.keys() and "stack:litellm" in fronted.plan


def test_no_secret_is_in_compose_yml_and_files_with_one_are_for_root_alone() -> None:
    fronted = contained(upstream="ai")
    fronted.small.roles["ai"]["llama_server"] |= {"encrypted": False, "api_key": True}
    files = [each for each in fronted.plan.values() if isinstance(each, File) and each.path.startswith(DIRECTORY)]
    with_one = {each.path for each in files if any(secret.encode() in each.data for secret in (MASTER, SALT, SERVERS))}
    assert with_one == {f"{DIRECTORY}/secrets.env"}
    assert {each.path for each in files if each.mode == 0o600} == with_one | {f"{DIRECTORY}/access.json"}
    assert "env_file" not in definition(fronted)
    assert {each["source"]: each["target"] for each in definition(fronted)["volumes"]}[f"{DIRECTORY}/secrets.env"] == VARIABLES
    assert f"PADDOCK_KEY_API_KEY_AI={SERVERS}\n" in fronted.text(f"{DIRECTORY}/secrets.env")


def test_litellm_gets_its_secrets_as_they_were_written(tmp_path: Path) -> None:
    """By the very entry of the container, with its file where it can be here."""
    fronted = contained(upstream="ai")
    odd = "~root/of=~+a.person~-"
    fronted.small.secrets[master_key_name("one")] = odd
    variables = tmp_path / "variables"
    variables.write_text(fronted.text(f"{DIRECTORY}/secrets.env"))
    said = definition(fronted)
    entry = [each.replace("$$", "$").replace(VARIABLES, str(variables)) for each in said["entrypoint"]]
    assert said["command"][0] == "litellm"
    done = subprocess.run([*entry, "env", "-0"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=True)
    got = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    assert (got["LITELLM_MASTER_KEY"], got["PADDOCK_PEPPER"]) == (odd, SALT)
    variables.unlink()
    assert subprocess.run([*entry, "true"], capture_output=True).returncode != 0


def test_it_has_the_sockets_of_servers_and_tunnels_and_writes_to_nothing_of_the_host() -> None:
    fronted = contained(upstream=["ai", "one"])
    said = definition(fronted)
    assert all(each["read_only"] for each in said["volumes"])
    assert [each["source"] for each in said["volumes"] if each["source"] == each["target"]] == ["/run/paddock"]
    assert {path.rpartition("/")[0] for path in fronted_sockets(fronted)} == {"/run/paddock"}
    assert "service:paddock-litellm-tunnel-ai.8080.service" in fronted.plan
    assert (said["read_only"], said["tmpfs"], said["cap_drop"]) == (True, ["/tmp"], ["ALL"]) and "cap_add" not in said


def fronted_sockets(fronted: Fronted) -> list[str]:
    access = yaml.safe_load(fronted.text(f"{DIRECTORY}/access.json"))
    assert set(access["sockets"]) == {"llama-server.ai.invalid", "llama-server.one.invalid"}
    return list(access["sockets"].values())


def test_it_is_published_at_the_address_meant_and_says_how_it_is() -> None:
    said = definition(contained(listen="192.0.2.12:4001", memory_max="3G"))
    assert [(each["host_ip"], each["published"], each["target"]) for each in said["ports"]] == [("192.0.2.12", "4001", 4000)]
    assert said["mem_limit"] == "3g" and "/health/liveliness" in said["healthcheck"]["test"][-1]


def test_it_is_given_the_module_that_knows_users_by_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(FLEET.format(said=f", image: {IMAGE}", docker="docker:", more=""))
    read = knowledge_of_inventory(load(path), tmp_path).program(MODULES)
    assert set(read) == {"__init__.py", "auth.py", "sockets.py"} and "async def user_of" in read["auth.py"]
    fronted = contained()
    fronted.services = {MODULES: read}
    targets = {each["target"]: each["source"] for each in definition(fronted)["volumes"]}
    assert targets["/paddock/paddock_litellm/auth.py"] == f"{DIRECTORY}/auth.py"
    assert fronted.text(f"{DIRECTORY}/auth.py") == read["auth.py"]
    assert definition(fronted)["environment"]["PYTHONPATH"] == "/paddock"


def test_another_alias_makes_the_container_anew() -> None:
    before, after = stack_of(contained()), stack_of(contained(models={"demo": {"aliases": ["default"]}}))
    assert before.containers[0].declared != after.containers[0].declared


def test_no_environment_is_fetched_for_it() -> None:
    settings = LitellmSettings.model_validate({"runtime": "container", "image": IMAGE})
    assert settings.program() is None and LitellmSettings().program() == "litellm"


def traced(**langfuse: Any) -> Fronted:
    """With a Langfuse on `ai`."""
    fronted = contained(langfuse="ai")
    images = dict.fromkeys(("web", "worker", "postgres", "clickhouse", "valkey", "store"), IMAGE)
    fronted.small.roles["ai"] |= {"docker": {}, "langfuse": {"images": images, "email": "ann@home.example", **langfuse}}
    fronted.small.secrets |= {secret_name(KEY, "ai"): TRACES}
    return fronted


def test_success_and_failure_are_traced_with_the_keys_of_langfuses_first_project() -> None:
    fronted = traced(listen="0.0.0.0:3001")
    said = yaml.safe_load(fronted.text(f"{DIRECTORY}/config.yaml"))["litellm_settings"]
    assert said["success_callback"] == said["failure_callback"] == ["langfuse"] and said["callbacks"] == ["prometheus"]
    variables = fronted.text(f"{DIRECTORY}/secrets.env").splitlines()
    assert {f"LANGFUSE_PUBLIC_KEY={public_key(TRACES)}", f"LANGFUSE_SECRET_KEY={TRACES}"} <= set(variables)
    assert TRACES not in fronted.text(f"{DIRECTORY}/compose.yml") + fronted.text(f"{DIRECTORY}/config.yaml")
    assert definition(fronted)["environment"]["LANGFUSE_HOST"] == "http://192.0.2.10:3001"


def test_a_url_of_langfuse_goes_before_its_address() -> None:
    fronted = traced(url="https://traces.home.example/")
    assert definition(fronted)["environment"]["LANGFUSE_HOST"] == "https://traces.home.example"
    assert not remarks_on(fronted)
    (remark,) = remarks_on(traced(listen="192.0.2.10:3000"))
    assert "NOT ENCRYPTED" in remark and "http://192.0.2.10:3000" in remark


def remarks_on(fronted: Fronted) -> list[str]:
    settings = fronted.fleet.role("one", "litellm", LitellmSettings)
    assert settings
    return list(remarks(fronted.fleet.hosts["one"], settings, fronted.fleet, fronted.known))


def test_another_key_of_langfuse_makes_the_container_anew() -> None:
    before, after = traced(listen="0.0.0.0:3001"), traced(listen="0.0.0.0:3001")
    after.small.secrets |= {secret_name(KEY, "ai"): "sk-of-another-project-" + "y" * 32}
    assert stack_of(before).containers[0].declared != stack_of(after).containers[0].declared


LANGFUSE = f"""
      langfuse:
        email: ann@home.example
        images: {{{", ".join(f"{name}: {IMAGE}" for name in ("web", "worker", "postgres", "clickhouse", "valkey", "store"))}}}"""


@pytest.mark.parametrize(
    ("said", "docker", "words"),
    [
        ("halo", "docker:", 'no host is called "halo"'),
        ("ai", "docker:", "there is no Langfuse on ai: add the role langfuse to it"),
        ("ai", f"docker:{LANGFUSE}", "langfuse on ai listens on 127.0.0.1:3000, out of a container's reach: set for example 0.0.0.0:3000"),
    ],
)
def test_traces_that_get_nowhere_are_told(said: str, docker: str, words: str, tmp_path: Path) -> None:
    (found,) = told(tmp_path, f", image: {IMAGE}, langfuse: {said}", docker)
    assert words in found


def test_traces_of_the_native_form_are_refused_for_its_packages_lack_what_sends_them(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    said = FLEET.replace("runtime: container", "langfuse: ai").format(said="", docker=f"docker:{LANGFUSE}", more="")
    path.write_text(said)
    with pytest.raises(InventoryError, match="set `runtime: container`"):
        load(path)


@pytest.mark.parametrize(
    ("said", "docker", "more", "words"),
    [
        ("", "docker:", "", "which image? name LiteLLM's with its digest"),
        (f", image: {IMAGE}", "base:", "", "a container needs an engine: add the role docker to ai"),
        (", image: ghcr.io/berriai/litellm:main-stable", "docker:", "", "`paddock artifacts pull --lock`"),
        (f", image: {IMAGE}", "docker:", ", user: ann", "ai runs as an account and has no socket, so that a container cannot reach it"),
    ],
)
def test_what_a_container_cannot_have_is_told(said: str, docker: str, more: str, words: str, tmp_path: Path) -> None:
    (found,) = told(tmp_path, said, docker, more)
    assert words in found


def test_a_container_may_have_a_port_that_only_root_opens(tmp_path: Path) -> None:
    assert not told(tmp_path, f", image: {IMAGE}, listen: '127.0.0.1:80'")


@pytest.mark.parametrize(("tag", "words"), [("v1.82.7", "was malware"), ("main-v1.107.2-stable", "was withdrawn")])
def test_an_image_whose_tag_is_a_bad_version_is_refused(tag: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LitellmSettings.model_validate({"image": IMAGE.replace("main-stable", tag)})
