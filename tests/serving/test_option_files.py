"""Projector, draft, adapter, template, grammar and schema of a model, from every kind of source, on a real llama-server in its sandbox."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from control.models.local import tiny_model
from inventory.model_lock import read_lock
from tests.lab_fleet import LabFleet, lab_fleet
from tests.model_server import ModelServer, gguf, model_server
from tests.share import turn
from tests.tiny_files import adapter, picture, projector

pytestmark = turn(4, of=5)

NAME = "optfiles"
REPOSITORY = "home/Tiny-VL-GGUF"
DIRECTORY = "/var/lib/paddock/models"
ANSWER = "Hello from a tiny model: this host answers."
TEMPLATE = "OURS:{% for message in messages %}{{ message['content'] }}{% endfor %}"


@dataclass
class Fleet:
    """A host with a router, and an instance; and what the router's models are."""

    lab: LabFleet
    server: ModelServer
    models: dict[str, Any]

    def write(self, models: dict[str, Any] | None = None) -> None:
        host = self.lab.host("one")
        serving = {"models": ["eyes", "tone", "calm", "rule", "form"], "instances": {"chat": {"model": "chat", "listen": "127.0.0.1:8081"}}}
        roles = {"base": {"time": "elsewhere"}, "llama_cpp": {"ui": False}, "models": {}, "llama_server": serving}
        hosts = {"one": {"address": host.address, "ssh_key": str(host.ssh_key), "host_key": host.host_key, "roles": roles}}
        models = {name: {"preset": {"ctx-size": 512}} | model for name, model in (models or self.models).items()}
        self.lab.write(json.dumps({"fleet": NAME, "domain": "home.example", "hosts": hosts, "models": models}))  # JSON is YAML

    def paddock(self, *arguments: str, code: int = 0) -> str:
        done = self.lab.paddock(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == code and "Traceback" not in said, said
        return said

    def ask(self, model: str, content: object = "Hello!", path: str = "/v1/chat/completions", port: int = 8080, **more: Any) -> Any:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, **more})
        script = f"curl -sS --max-time 60 http://127.0.0.1:{port}{path} -d @- <<'END'\n{body}\nEND"
        return json.loads(self.lab.on("one", script))

    def says(self, model: str, content: object = "Hello!") -> str:
        answer = self.ask(model, content, max_tokens=12)
        return str(answer["choices"][0]["message"]["content"]) if "choices" in answer else json.dumps(answer)


def url(server: ModelServer, here: str, name: str, content: bytes) -> dict[str, Any]:
    server.files[f"/{name}"] = content
    return {"url": f"http://{here}:{server.port}/{name}", "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp(NAME)
    bare = json.dumps({"fleet": NAME, "domain": "home.example", "hosts": {"one": {"address": "192.0.2.1", "roles": {"base": {}}}}})
    with model_server() as server, lab_fleet(NAME, directory, bare, ready=True) as lab:
        here = str(next(ip_network(lab.host("one").network).hosts()))
        lab.environment["HF_ENDPOINT"] = f"http://{here}:{server.port}"
        files = {"tiny-Q8_0.gguf": tiny_model().read_bytes(), "mmproj-F16.gguf": projector(directory / "eyes.gguf").read_bytes()}
        server.repositories[REPOSITORY] = {**files, "chat.jinja": TEMPLATE.encode()}
        tone = url(server, here, "tone.gguf", adapter(directory / "tone.gguf").read_bytes())
        gguf(directory, "small")
        (directory / "rule.gbnf").write_text('root ::= "yes, " [a-z]')
        (directory / "form.json").write_text('{"enum": ["no"]}')
        for name in ("ours", "form"):
            (directory / f"{name}.jinja").write_text(TEMPLATE)
        models = {
            "eyes": {"source": {"hf": REPOSITORY}, "mmproj": "auto"},
            "tone": {"lora": [{"source": tone}]},
            "calm": {"lora": [{"source": tone, "scale": 0}]},
            "rule": {"grammar_file": {"source": {"local": "rule.gbnf"}}},
            "form": {
                "json_schema_file": {"source": {"local": "form.json"}},
                "chat_template_file": {
                    "source": {"local": "form.jinja"}
                },  # llama-server wants the schema of a prompt that the template adds
            },
            "chat": {
                "draft": {"source": {"local": "small.gguf"}},
                "chat_template_file": {"source": {"hf": REPOSITORY, "file": "chat.jinja"}},
            },
        }
        made = Fleet(lab, server, models)
        made.write()
        made.paddock("models", "pull", "--lock")
        made.paddock("up", "--yes")
        yield made


def test_each_is_pinned_and_lies_where_its_model_does(fleet: Fleet) -> None:
    names = ["eyes", "eyes+mmproj", "rule+grammar-file", "form+chat-template-file", "form+json-schema-file"]
    assert list(read_lock(fleet.lab.inventory).models) == [*names, "chat+draft", "chat+chat-template-file"]
    found = set(fleet.lab.on("one", f"cd {DIRECTORY} && ls | grep -v sha256").split())
    assert found >= {"eyes+mmproj.gguf", "tone+lora-1.gguf", "calm+lora-1.gguf", "rule+grammar-file.gbnf", "chat+draft.gguf"}
    one, other = fleet.lab.on("one", f"stat -c %i {DIRECTORY}/tone+lora-1.gguf {DIRECTORY}/calm+lora-1.gguf").split()
    assert one == other and len(fleet.server.asked_for("/tone.gguf")) <= 1  # none by a host that an earlier run has kept


def test_a_model_sees_with_the_projector_that_lies_beside_it(fleet: Fleet) -> None:
    seen = fleet.says("eyes", [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture()}}])
    assert seen.strip() == ANSWER
    blind = fleet.says("tone", [{"type": "image_url", "image_url": {"url": picture()}}])
    assert "image input is not supported" in blind


def test_an_adapter_is_applied_with_its_scale(fleet: Fleet) -> None:
    assert fleet.says("tone").strip() == "host answers."
    assert fleet.says("calm").strip() == ANSWER


def test_answers_follow_the_grammar_and_the_schema(fleet: Fleet) -> None:
    assert fleet.says("rule").startswith("yes, ")
    assert fleet.says("form") == '"no"'


def test_a_draft_drafts_and_the_template_is_ours(fleet: Fleet) -> None:
    answer = fleet.ask("chat", port=8081, max_tokens=12)
    assert answer["choices"][0]["message"]["content"].strip() == ANSWER
    assert answer["timings"]["draft_n"] > 0
    assert fleet.ask("chat", path="/apply-template", port=8081)["prompt"] == "OURS:Hello!"


def test_what_they_take_is_counted_with_their_model(fleet: Fleet) -> None:
    found = json.loads(fleet.paddock("models", "fit", "--json"))["hosts"]["one"]
    assert not [line for line in (*found["unchecked"], *found["remarks"]) if "mmproj" in line or "lora" in line or "draft" in line]


def test_a_file_that_changes_restarts_the_server_that_reads_it_and_no_other(fleet: Fleet, tmp_path: Path) -> None:
    started = "systemctl show -p InvocationID --value llama-server-chat llama-server"
    chat, _, router = fleet.lab.on("one", started).splitlines()
    assert "one: as declared" in fleet.paddock("plan")
    models = {**fleet.models, "chat": {**fleet.models["chat"], "chat_template_file": {"source": {"local": "ours.jinja"}}}}
    (fleet.lab.directory / "ours.jinja").write_text(TEMPLATE.replace("OURS", "NEW"))
    fleet.write(models)
    fleet.paddock("models", "pull", "--lock")
    fleet.paddock("up", "--yes", "--no-verify")
    assert fleet.ask("chat", path="/apply-template", port=8081)["prompt"] == "NEW:Hello!"
    chat_now, _, router_now = fleet.lab.on("one", started).splitlines()
    assert (router_now, chat_now != chat) == (router, True)
