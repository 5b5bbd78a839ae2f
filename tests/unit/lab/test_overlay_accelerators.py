"""What an accelerator becomes in the lab, where there is none: said, host by host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inventory.fleet import Fleet
from inventory.load import load
from lab.lab_host import LabHost
from lab.overlay import overlay

INVENTORIES = Path(__file__).parents[3] / "inventory"
KEY = f"ssh-ed25519 {'AAAALAB':A<68}"


def in_lab(fleet: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    where = enumerate(fleet.hosts, 2)
    hosts = {
        name: LabHost(fleet.name, name, f"paddock-{name}", "running", "root", Path("/lab/ssh_key"), f"172.17.0.{at}", "172.17.0.0/16", KEY)
        for at, name in where
    }
    return overlay(fleet, hosts)


def one(**settings: Any) -> tuple[dict[str, Any], list[str]]:
    """The host's llama_cpp in the lab, and what is told of it."""
    host = {"name": "ai", "address": "192.0.2.10", "roles": {"llama_cpp": settings}}
    lab, told = in_lab(Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"ai": host}}))
    return dict(lab.hosts["ai"].roles.llama_cpp), [line for line in told if "llama_cpp" in line]


def test_vulkan_computes_on_the_processor() -> None:
    settings, told = one(accelerator="vulkan")
    assert (settings["accelerator"], settings["vulkan_device"]) == ("vulkan", "any")
    assert told == ["ai: Vulkan computes on the processor, by Mesa's driver: llama_cpp.vulkan_device is any."]


@pytest.mark.parametrize("accelerator", ["cuda", "auto"])
def test_what_needs_a_card_or_would_look_for_one_is_built_for_the_processor(accelerator: str) -> None:
    settings, told = one(accelerator=accelerator)
    assert settings["accelerator"] == "cpu"
    assert told == [f"ai: there is no GPU, so llama_cpp.accelerator is cpu in place of {accelerator}."]


def test_options_that_would_bring_the_card_back_go_with_it() -> None:
    settings, told = one(accelerator="cuda", options={"CMAKE_CUDA_ARCHITECTURES": "61-real", "GGML_AVX512": False})
    assert settings["options"] == {"GGML_AVX512": False}
    assert told[1:] == ["ai: llama_cpp.options is without CMAKE_CUDA_ARCHITECTURES, which a build for the processor does not have."]


@pytest.mark.parametrize(
    "settings", [{"accelerator": "cpu"}, {"accelerator": "vulkan", "vulkan_device": "any"}, {"accelerator": "cuda", "serve": False}]
)
def test_what_a_lab_host_can_do_as_it_is_stays_so_without_a_word(settings: dict[str, Any]) -> None:
    found, told = one(**settings)
    assert settings.items() <= found.items()
    assert told == []


def test_who_compiles_for_whom_and_how_stays_as_it_is() -> None:
    real = load(INVENTORIES / "pi-llm.yml")
    assert in_lab(real)[0].hosts["pi"].roles.llama_cpp == real.hosts["pi"].roles.llama_cpp
    assert in_lab(real)[0].hosts["workshop"].roles.llama_cpp == real.hosts["workshop"].roles.llama_cpp


def test_the_role_gpu_is_left_out() -> None:
    lab, told = in_lab(load(INVENTORIES / "local-ai.yml"))
    assert "gpu" not in lab.hosts["pea"].carried and "llama_cpp" in lab.hosts["pea"].carried
    assert "pea: the role gpu is left out: there is no card to drive." in told
    assert not [line for line in told if line.startswith("prod:") and "gpu" in line]


@pytest.mark.parametrize("name", ["ai-server", "llamaserve", "local-ai", "pi-llm", "demo"])
def test_what_the_lab_runs_is_an_inventory_too(name: str) -> None:
    lab = in_lab(load(INVENTORIES / f"{name}.yml"))[0]
    assert Fleet.model_validate(lab.model_dump()) == lab


def test_options_for_cards_and_drafts_go_and_are_told_at_their_place() -> None:
    preset = {"ctx-size": 512, "device": ["CUDA0", "CUDA1"], "spec-type": "draft-simple", "tensor-split": [3, 1]}
    instance = {"model": "own", "listen": "127.0.0.1:8081", "preset": {"split-mode": "tensor", "ot": "exps=CPU"}}
    other = {"model": "own", "listen": "127.0.0.1:8082", "preset": {"device": "none", "ot": "a=CPU,b=CUDA1"}}
    serving = {"models": ["big"], "preset": {"mmproj-device": "CUDA1", "jinja": True}, "instances": {"chat": instance, "other": other}}
    host = {"name": "ai", "address": "192.0.2.10", "roles": {"llama_cpp": {}, "models": {}, "llama_server": serving}}
    big = {"source": {"url": "https://models.home.example/big.gguf", "sha256": "a" * 64}, "preset": preset}
    fleet = {"name": "home", "domain": "home.example", "hosts": {"ai": host}, "models": {"big": big, "own": {}}}
    lab, told = in_lab(Fleet.model_validate(fleet))
    assert dict(lab.models["big"].preset) == {"ctx-size": 512, "tensor-split": "3,1"}
    settings: Any = lab.hosts["ai"].roles.llama_server  # type: ignore[attr-defined]
    assert settings.preset == {"jinja": True}
    assert [each.preset for each in settings.instances.values()] == [{"ot": "exps=CPU"}, {"device": "none"}]
    why = "there is no card, and nothing to draft with."
    assert [line for line in told if why in line] == [
        f"ai: llama_server.preset is without mmproj-device: {why}",
        f"ai: llama_server.instances.chat.preset is without split-mode: {why}",
        f"ai: llama_server.instances.other.preset is without ot: {why}",
        f"model big: its preset is without device, spec-type: {why}",
    ]


@pytest.mark.parametrize(
    ("directory", "there"),
    [("/mnt/nvme/models", "/var/lib/paddock/models"), ("/scratch/models", "/var/lib/paddock/models"), ("/srv/models", "/srv/models")],
)
def test_models_on_a_disk_that_a_lab_host_does_not_have_are_elsewhere(directory: str, there: str) -> None:
    host = {"name": "ai", "address": "192.0.2.10", "roles": {"llama_cpp": {}, "models": {"directory": directory}}}
    lab, told = in_lab(Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"ai": host}}))
    assert lab.hosts["ai"].roles.models.directory == there  # type: ignore[attr-defined]
    words = f"ai: models.directory is {there} in place of {directory}: a lab host has no disk there."
    assert (words in told) == (directory != there)
