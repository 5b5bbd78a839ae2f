"""The files that options of llama-server name for a model: what comes of them on its host."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import Small

from control.deployment.payload import payload_for
from control.deployment.work import Work
from control.models.local import digest_of
from control.state.fleet import FleetState
from inventory.load import loaded
from inventory.model_shape import ModelShape
from inventory.options import SHIPPED, read
from inventory.presets import judged
from inventory.schema import ModelEntry
from lab.lab_host import LabHost
from lab.overlay import overlay
from resources import Directory, ModelFile, Service
from resources.drift import drift
from resources.probe import Actual
from roles.llama_cpp.gate import HOME, instances
from roles.llama_server.demands import remarks

SHA = "a" * 64
HERE = "/var/lib/paddock/models"
PRESETS = "/etc/paddock/llama-server/presets.ini"
UNIT = "/etc/systemd/system/llama-server.service"


def url(name: str, **more: Any) -> dict[str, Any]:
    return {"source": {"url": f"https://models.home.example/{name}", "sha256": SHA}, **more}


@pytest.fixture
def small(small: Small) -> Small:
    """`ai` serves one model, that has a file for each option; by a router, and by an instance."""
    parts = [{"name": f"d-0000{at}-of-00002.gguf", "sha256": SHA, "size": at} for at in (1, 2)]
    small.models["demo"] |= {
        "mmproj": url("eyes.gguf"),
        "draft": {"source": {"url": "https://models.home.example/d-00001-of-00002.gguf", "files": parts}},
        "lora": [url("tone.gguf"), {"source": {"path": "/srv/mine.gguf", "sha256": SHA}, "scale": 0.5}],
        "control_vector": [url("calm.gguf")],
        "chat_template_file": url("chat.jinja"),
        "grammar_file": url("json.gbnf"),
        "json_schema_file": {"source": {"local": "answer.json", "sha256": SHA}},
    }
    instance = {"chat": {"model": "demo", "listen": "127.0.0.1:8081"}}
    small.roles["ai"]["llama_server"] = {"models": ["demo"], "instances": instance}
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["upstream"] = "ai"
    small.roles["ai"]["llama_server"]["listen"] = "0.0.0.0:8080"
    return small


NAMED = {
    "mmproj": f"{HERE}/demo+mmproj.gguf",
    "model-draft": f"{HERE}/demo+draft/demo+draft-00001-of-00002.gguf",
    "lora-scaled": f"{HERE}/demo+lora-1.gguf:1,/srv/mine.gguf:0.5",
    "control-vector": f"{HERE}/demo+control-vector-1.gguf",
    "chat-template-file": f"{HERE}/demo+chat-template-file.jinja",
    "grammar-file": f"{HERE}/demo+grammar-file.gbnf",
    "json-schema-file": f"{HERE}/demo+json-schema-file.json",
}


def test_each_file_comes_to_the_host_from_its_own_source(small: Small) -> None:
    plan = small.plan("ai")
    files = {each.path.removeprefix(f"{HERE}/"): each.origin for each in plan.values() if isinstance(each, ModelFile)}
    there = "url https://models.home.example"
    assert files == {
        "demo.gguf": "tiny",
        "demo+mmproj.gguf": f"{there}/eyes.gguf",
        "demo+draft/demo+draft-00001-of-00002.gguf": f"{there}/d-00001-of-00002.gguf",
        "demo+draft/demo+draft-00002-of-00002.gguf": f"{there}/d-00002-of-00002.gguf",
        "demo+lora-1.gguf": f"{there}/tone.gguf",
        "/srv/mine.gguf": "host",
        "demo+control-vector-1.gguf": f"{there}/calm.gguf",
        "demo+chat-template-file.jinja": f"{there}/chat.jinja",
        "demo+grammar-file.gbnf": f"{there}/json.gbnf",
        "demo+json-schema-file.json": "local answer.json",
    }
    assert plan[f"directory:{HERE}/demo+draft"] == Directory(f"{HERE}/demo+draft")


def test_a_router_names_them_in_its_presets_and_an_instance_on_its_command_line(small: Small) -> None:
    lines = small.text("ai", PRESETS).splitlines()
    assert [f"{option} = {path}" for option, path in NAMED.items()] == [line for line in lines if HERE in line and "model = " not in line]
    unit = small.text("ai", UNIT.replace(".service", "-chat.service"))
    for option, path in NAMED.items():
        assert f"--{option} {path}" in unit


def test_a_server_starts_anew_when_one_of_them_is_another(small: Small) -> None:
    service = small.plan("ai")["service:llama-server.service"]
    assert isinstance(service, Service)
    before = service.started
    small.models["demo"]["mmproj"]["source"]["sha256"] = "b" * 64
    after = small.plan("ai")["service:llama-server.service"]
    assert isinstance(after, Service) and after.started != before


def test_the_sandbox_shows_a_file_of_a_home_and_waits_for_its_disk(small: Small) -> None:
    small.models["demo"] = {"mmproj": {"source": {"path": "/home/me/eyes.gguf", "sha256": SHA}}}
    unit = small.text("ai", UNIT)
    assert 'BindReadOnlyPaths="-/home/me/eyes.gguf"' in unit and "ProtectHome=tmpfs" in unit
    assert "RequiresMountsFor=/opt/paddock/llama.cpp /var/lib/paddock/models /home/me\n" in unit


def test_adapters_without_weights_need_no_scale(small: Small) -> None:
    small.models["demo"] = {"lora": [url("a.gguf"), url("b.gguf", scale=1)]}
    assert f"lora = {HERE}/demo+lora-1.gguf,{HERE}/demo+lora-2.gguf" in small.text("ai", PRESETS)


def test_an_instances_own_option_goes_before_the_models_file(small: Small) -> None:
    small.roles["ai"]["llama_server"]["instances"]["chat"]["preset"] = {"mmproj": "/srv/other.gguf"}
    unit = small.text("ai", UNIT.replace(".service", "-chat.service"))
    assert "--mmproj /srv/other.gguf" in unit and "demo+mmproj" not in unit.partition("ExecStart=")[2].partition("\n\n")[0]


def test_two_models_with_one_projector_have_one_content_under_two_names(small: Small) -> None:
    for name in ("demo", "code"):
        small.models[name] = {"mmproj": url("eyes.gguf")}
    small.roles["ai"]["llama_server"]["models"] = ["demo", "code"]
    found = [each for each in small.plan("ai").values() if isinstance(each, ModelFile) and "mmproj" in each.path]
    assert [(each.path, each.sha256) for each in found] == [(f"{HERE}/{name}+mmproj.gguf", SHA) for name in ("demo", "code")]


def test_a_trial_of_a_release_does_not_read_texts_that_land_after_it(small: Small) -> None:
    plan = tuple(small.plan("ai").values())
    release = next(each for each in plan if each.kind == "release")
    by_unit = {each.unit: each for each in instances(plan, release)}  # type: ignore[arg-type]
    (presets,) = by_unit["llama-server.service"].files.values()
    words = " ".join(by_unit["llama-server-chat.service"].arguments)
    for option, instead in {"chat-template-file": "/dev/null", "grammar-file": "/dev/null", "json-schema-file": f"{HOME}/schema"}.items():
        assert f"{option} = {instead}\n" in presets.decode()
        assert f"--{option} {instead}" in words


def test_what_lies_on_the_control_machine_is_sent(small: Small, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    digest = digest_of(tmp_path / "chat.jinja").sha256
    small.models["demo"] = {"chat_template_file": {"source": {"local": "chat.jinja", "sha256": digest}}}
    plan = {"models": tuple(each for each in small.plan("ai").values() if isinstance(each, ModelFile))}
    state = FleetState.of(tmp_path / "home.yml", "home")
    payload = payload_for(Work(plan, Actual(), drift(plan, Actual())), "ai", small.fleet, state)
    assert payload[f"model:{HERE}/demo+chat-template-file.jinja"] == tmp_path / "chat.jinja"


def test_in_a_lab_a_tiny_model_takes_none_of_them(small: Small) -> None:
    small.models["demo"]["source"] = url("demo.gguf")["source"]
    lab = {
        name: LabHost("home", name, f"paddock-home-{name}", "running", "root", Path("/lab/ssh_key"), f"172.17.0.{at}", "172.17.0.0/16", "")
        for at, name in enumerate(small.roles, 2)
    }
    moved, told = overlay(small.fleet, lab)
    assert moved.models["demo"] == ModelEntry.model_validate({"preset": {"ctx-size": 2048}})
    assert (
        "model demo: left out: mmproj, draft, lora, control_vector, chat_template_file, grammar_file, json_schema_file: a tiny model has no"
        " use for them." in told
    )


def test_a_version_without_an_option_is_told_at_its_key(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(
        "fleet: home\ndomain: home.example\n"
        "hosts: {ai: {address: 192.0.2.1, roles: {llama_cpp: , models: , llama_server: {models: [chat]}}}}\n"
        f"models:\n  chat:\n    draft: {{source: {{path: /srv/d.gguf, sha256: {SHA}}}}}\n"
    )
    this = loaded(path)
    known = read(SHIPPED.read_text())
    older = type(known)(known.source, "0.1", tuple(each for each in known.all if "--model-draft" not in each.names))
    assert judged(this.positions, this.fleet, lambda source: known).problems == ()
    (said,) = judged(this.positions, this.fleet, lambda source: older).problems
    assert said == f'{path}:6:5: models.chat.draft: llama-server 0.1 has no option for "draft" (--model-draft): leave it out'


def test_a_projector_for_images_makes_a_model_one_that_sees(small: Small) -> None:
    assert all("mmproj" in preset for preset in small.fleet.presets("ai"))


OPTIONS = {"ai": read(SHIPPED.read_text())}


def knowing(small: Small, monkeypatch: pytest.MonkeyPatch, **shapes: ModelShape) -> Small:
    """With what is known of the options, and of the draft."""
    known = replace(small.context, options=OPTIONS, shapes={f"demo+{name}": shape for name, shape in shapes.items()})
    monkeypatch.setattr(type(small), "context", property(lambda self: known))
    return small


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        (ModelShape("llama", 1, block_count=2), "draft-simple"),
        (ModelShape("eagle3", 1, block_count=1), "draft-eagle3"),
        (ModelShape("dflash", 1, block_count=1), ""),
        (ModelShape("qwen3next", 1, block_count=2, nextn_predict_layers=1), ""),
    ],
)
def test_a_server_is_told_how_to_use_its_draft_where_it_does_not_see_it(
    small: Small, monkeypatch: pytest.MonkeyPatch, draft: ModelShape, said: str
) -> None:
    knowing(small, monkeypatch, draft=draft)
    presets, unit = small.text("ai", PRESETS), small.text("ai", UNIT.replace(".service", "-chat.service"))
    assert re.findall("spec-type = (.*)", presets) == re.findall("--spec-type (.*?)(?: |$)", unit, re.M) == ([said] if said else [])


@pytest.mark.parametrize("level", ["model", "role"])
def test_what_the_inventory_says_of_speculation_is_taken(small: Small, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    (small.models["demo"] if level == "model" else small.roles["ai"]["llama_server"]).setdefault("preset", {})["spec-type"] = "ngram-simple"
    knowing(small, monkeypatch, draft=ModelShape("llama", 1, block_count=2))
    assert "draft-simple" not in small.text("ai", PRESETS)


def test_a_draft_that_nobody_has_looked_at_is_remarked_upon(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    knowing(small, monkeypatch)
    assert "spec-type" not in small.text("ai", PRESETS)
    (said,) = {line for line in remarks("ai", small.fleet, small.context, {}) if "draft" in line}
    assert said.startswith("hosts.ai: models.demo.draft: nobody has read its header, so llama-server loads it and does not use it")
