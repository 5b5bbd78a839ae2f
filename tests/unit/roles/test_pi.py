"""What pi is given: the models that its person's site serves, the extension, and where both are linked. What it does with them is seen in
tests/edge/test_pi.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from small_fleet import SERVING, Small

from inventory.knowledge import TO_BE_ISSUED, Certificate
from inventory.model_shape import ModelShape
from resources import Directory, File, Resource
from roles.client.pi import EXTENSION, MODELS, SOURCES
from roles.client.settings import bridge_key_name
from roles.host_plan import host_plan
from roles.role import TEMPLATES

ANNAS = "/etc/paddock/clients/anna/pi"


class Desk:
    """The host `desk` of the small fleet, at which `anna` sits with pi. `server` and `preset` are of the host behind her site."""

    def __init__(self, small: Small) -> None:
        self.small = small
        self.seat: dict[str, Any] = {"client": "laptop", "bridge": "127.0.0.1:8399", "site": "ai.home.example", "pi": True}
        self.secrets = {bridge_key_name("desk", "anna"): "sk-annas"}
        self.shapes: dict[str, ModelShape] = {}

    def serve(self, **models: dict[str, Any]) -> None:
        """These models with these presets, by a router."""
        self.small.models = {name: {"preset": preset} for name, preset in models.items()}
        self.small.roles = {"ai": {**SERVING, "llama_server": {"listen": "0.0.0.0:8080", "models": list(models)}}, **self.others}

    @property
    def others(self) -> dict[str, Any]:
        return {"door": self.small.roles["door"]}

    @property
    def plan(self) -> dict[str, Resource]:
        self.small.roles["desk"] = {"client": {"accounts": {"anna": self.seat}}}
        fleet, known = self.small.fleet, self.small.context
        context = replace(known, identities={"laptop": Certificate("leaf", "key")}, secrets=self.secrets, shapes=self.shapes)
        return {each.id: each for part in host_plan(fleet.hosts["desk"], fleet, context).values() for each in part}

    def file(self, name: str) -> File:
        found = self.plan[f"file:{ANNAS}/{name}"]
        assert isinstance(found, File)
        return found

    @property
    def provider(self) -> dict[str, Any]:
        ((name, provider),) = json.loads(self.file("models.json").data)["providers"].items()
        assert name == "home"
        return dict(provider)

    @property
    def windows(self) -> dict[str, int]:
        return {each["id"]: each["contextWindow"] for each in self.provider["models"]}


@pytest.fixture
def desk(small: Small) -> Desk:
    return Desk(small)


def test_the_models_are_those_behind_the_persons_site_reached_over_the_bridge_with_its_key(desk: Desk) -> None:
    provider = desk.provider
    assert (provider["baseUrl"], provider["api"], provider["apiKey"]) == ("http://127.0.0.1:8399/v1", "openai-completions", "sk-annas")
    assert list(desk.windows) == ["demo", "code"]
    desk.seat["site"] = "one.home.example"
    assert list(desk.windows) == ["demo"]


def test_the_file_holds_a_key_and_is_its_accounts_to_read_and_nobody_elses(desk: Desk) -> None:
    file = desk.file("models.json")
    assert (file.secret, file.owner, file.group, file.mode) == (True, "root", "anna", 0o640)
    for path in (ANNAS, f"{ANNAS}/ai-server"):
        directory = desk.plan[f"directory:{path}"]
        assert isinstance(directory, Directory)
        assert (directory.owner, directory.group, directory.mode, directory.exclusive) == ("root", "anna", 0o750, True)


def test_before_anything_is_issued_a_plan_says_so(desk: Desk) -> None:
    desk.secrets = {}
    assert desk.provider["apiKey"] == TO_BE_ISSUED


@pytest.mark.parametrize(
    ("preset", "tokens"),
    [
        ({"ctx-size": 8192}, 8192),
        ({"c": 4096}, 4096),
        ({"ctx-size": 16384, "parallel": 2}, 8192),
        ({"ctx-size": 16384, "np": 2, "kv-unified": True}, 16384),
        ({"ctx-size": 16384, "parallel": -1}, 16384),
        ({"ctx-size": 0}, 32768),
        ({}, 32768),
    ],
)
def test_a_context_is_what_one_conversation_has_of_it(desk: Desk, preset: dict[str, Any], tokens: int) -> None:
    desk.serve(demo=preset)
    assert desk.windows == {"demo": tokens}


@pytest.mark.parametrize(("size", "tokens"), [(None, 40960), (2048, 2048), (65536, 40960)])
def test_a_context_is_never_more_than_the_model_was_made_for_and_that_where_nothing_is_said(
    desk: Desk, size: int | None, tokens: int
) -> None:
    desk.shapes = {"demo": ModelShape("llama", 1, context_length=40960)}
    desk.serve(demo={"ctx-size": size} if size else {})
    assert desk.windows == {"demo": tokens}


@pytest.mark.parametrize(("size", "tokens"), [({}, 2048), ({"ctx-size": 65536}, 2048), ({"ctx-size": 1024}, 1024)])
def test_a_slot_that_is_capped_has_no_longer_conversation(desk: Desk, size: dict[str, int], tokens: int) -> None:
    desk.serve(demo={**size, "kv-unified-per-slot": 2048})
    assert desk.windows == {"demo": tokens}


def test_of_instances_that_are_alike_the_one_model_is_there_once(desk: Desk) -> None:
    desk.serve(demo={"ctx-size": 4096})
    instances = {"chat": {"model": "demo", "listen": "0.0.0.0:8090", "count": 3}}
    desk.small.roles["ai"]["llama_server"] = {"instances": instances}
    desk.small.roles["door"] = {"caddy": {"sites": {"ai.home.example": {"upstream": "ai/chat"}}}}
    assert desk.windows == {"demo": 4096}


def test_an_answer_leaves_half_of_the_context_to_the_question(desk: Desk) -> None:
    desk.serve(demo={"ctx-size": 8192}, large={"ctx-size": 262144})
    assert [each["maxTokens"] for each in desk.provider["models"]] == [4096, 32768]


def test_what_does_not_chat_is_not_offered_and_what_sees_images_is_told_so(desk: Desk) -> None:
    desk.serve(demo={}, eyes={"mmproj": "/srv/eyes.gguf"}, vectors={"embeddings": True}, rank={"reranking": True})
    assert {each["id"]: each["input"] for each in desk.provider["models"]} == {"demo": ["text"], "eyes": ["text", "image"]}


def test_every_source_of_the_extension_lands_as_it_is_and_one_link_leads_to_them(desk: Desk) -> None:
    sources = TEMPLATES / "client/pi/ai-server"
    assert {each.name for each in sources.iterdir()} == set(SOURCES)
    for name in SOURCES:
        assert desk.file(f"ai-server/{name}").data == (sources / name).read_bytes()
    seat = next(each for each in desk.plan.values() if isinstance(each, File) and each.path.endswith("/seat.sh"))
    links = dict(line.split("\t") for line in seat.data.decode().splitlines() if line.startswith(".pi/agent/") and "\t" in line)
    assert (links[MODELS], links[EXTENSION]) == (f"{ANNAS}/models.json", f"{ANNAS}/ai-server")


def test_who_has_no_pi_is_given_none_of_it(desk: Desk) -> None:
    desk.seat["pi"] = False
    assert not [each for each in desk.plan if ANNAS in each]
