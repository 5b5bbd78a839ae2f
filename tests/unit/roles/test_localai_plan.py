"""LocalAI as an image server, and the gateway that offers what it makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from pydantic import ValidationError
from small_fleet import HARDWARE, Small

from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.hardware import NvidiaCard
from inventory.knowledge import Knowledge
from inventory.load import load
from paddock_gateway.settings import Configuration
from resources import File, Port, Resource, Stack, of_kind
from roles.gateway.plan import CONFIGURATION, remarks
from roles.gateway.settings import PEPPER
from roles.host_plan import host_plan
from roles.localai.settings import LocalaiSettings, key_name

DIRECTORY = "/etc/paddock/stacks/localai"
SAID = {
    "image": f"docker.io/localai/localai:latest-gpu-nvidia-cuda-12@sha256:{'a' * 64}",
    "listen": "192.0.2.10:5100",
    "card": 8,
    "models": {"heartcode-image": {"model": "segmind/SSD-1B", "steps": 25}},
}
UUIDS = [f"GPU-{number:08x}-0000-0000-0000-000000000000" for number in range(8)]
CARDS = tuple(NvidiaCard(uuid, f"0000:{at:02x}:00.0", "P104-100", "6.1", 8192) for at, uuid in enumerate(UUIDS, 1))
KEY = "sk-of-the-image-server-alone"


class Painting:
    """`ai` serves and makes images, `one` has the gateway."""

    def __init__(self, gateway: dict[str, Any] | None = None, **said: Any) -> None:
        self.small = Small()
        self.small.roles["one"].pop("caddy", None)
        self.small.roles["one"]["gateway"] = {"upstream": ["ai"], **(gateway or {})}
        self.small.roles["ai"] |= {"docker": {}, "gpu": {"count_from": 1, "nvidia": {"driver": "installed"}}, "localai": {**SAID, **said}}
        self.small.secrets = {PEPPER: "pepper-of-thirty-two-letters-or-more", key_name("ai"): KEY, "admin.ai": "sk-of-ai"}

    @property
    def fleet(self) -> Fleet:
        return self.small.fleet

    @property
    def known(self) -> Knowledge:
        context = self.small.context
        return replace(
            context, hardware={**context.hardware, "ai": replace(HARDWARE, nvidia_driver="580.65.06", nvidia_cards=tuple(reversed(CARDS)))}
        )

    def plan(self, host: str, known: Knowledge | None = None) -> list[Resource]:
        parts = host_plan(self.fleet.hosts[host], self.fleet, known or self.known)
        return [each for part in parts.values() for each in part]

    def text(self, host: str, path: str) -> str:
        (file,) = (each for each in of_kind(self.plan(host), File) if each.path == path)
        return file.data.decode()

    @property
    def container(self) -> dict[str, Any]:
        said: dict[str, Any] = yaml.safe_load(self.text("ai", f"{DIRECTORY}/compose.yml"))["services"]["localai"]
        return said

    @property
    def gateway(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.text("one", CONFIGURATION))
        return said


def test_it_gets_its_card_by_uuid_whatever_the_driver_counts_first() -> None:
    assert Painting().container["devices"] == [f"nvidia.com/gpu={UUIDS[7]}"]
    assert Painting(card="0000:02:00.0").container["devices"] == [f"nvidia.com/gpu={UUIDS[1]}"]


def test_a_card_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(PaddockError, match=r"localai\.card: there is no card 9, the host has 1 \(P104-100\), .* 8 \(P104-100\)"):
        Painting(card=9).plan("ai")


def test_its_model_is_described_as_localai_reads_it() -> None:
    said = yaml.safe_load(Painting().text("ai", f"{DIRECTORY}/heartcode-image.yaml"))
    assert (said["name"], said["backend"], said["step"], said["parameters"]) == (
        "heartcode-image",
        "diffusers",
        25,
        {"model": "segmind/SSD-1B"},
    )
    wanted = {"cuda": True, "pipeline_type": "StableDiffusionXLPipeline", "scheduler_type": "k_dpmpp_2m"}
    assert said["diffusers"] == wanted


def test_its_back_end_is_fetched_into_a_volume_by_an_entry_of_its_own() -> None:
    said = Painting().container
    mounted = {each["target"]: each for each in said["volumes"]}
    assert (said["entrypoint"], said["mem_limit"]) == (["/paddock/entry.sh"], "4096m")
    assert mounted["/backends"]["source"] == "paddock-localai-backends" and mounted["/paddock/entry.sh"]["read_only"]
    assert said["environment"]["PADDOCK_BACKEND"] == "cuda12-diffusers"


def test_its_key_stands_in_a_file_for_root_alone() -> None:
    painting = Painting()
    (key,) = (each for each in of_kind(painting.plan("ai"), File) if KEY.encode() in each.data)
    assert (key.path, key.mode, key.secret) == (f"{DIRECTORY}/key", 0o600, True)
    assert "env_file" not in painting.container
    assert {each["source"]: each["target"] for each in painting.container["volumes"]}[key.path] == "/run/secrets/key"


def test_only_the_hosts_whose_gateways_ask_it_are_to_reach_it() -> None:
    (stack,) = of_kind(Painting().plan("ai"), Stack)
    assert stack.ports == (Port(5100, ("192.0.2.10",), "docker.service", reachable_from=("one",)),)


def test_another_model_makes_its_container_anew() -> None:
    def declared(painting: Painting) -> str:
        (stack,) = of_kind(painting.plan("ai"), Stack)
        return stack.containers[0].declared

    assert declared(Painting()) == declared(Painting())
    assert declared(Painting()) != declared(Painting(models={"heartcode-image": {"model": "segmind/SSD-1B", "steps": 30}}))


def test_a_gateway_offers_what_it_makes_under_its_name() -> None:
    painting = Painting()
    said = painting.gateway
    assert said["models"]["heartcode-image"]["targets"] == [{"backend": "ai/localai", "model": "heartcode-image"}]
    assert said["models"]["heartcode-image"]["image_size"] == "512x512"
    assert said["backends"]["ai/localai"] == {
        "url": "http://192.0.2.10:5100",
        "key_file": "/etc/paddock/gateway/localai-key.ai",
        "slots": 1,
    }
    assert painting.text("one", "/etc/paddock/gateway/localai-key.ai") == f"{KEY}\n"
    assert msgspec.convert(said, Configuration).models["heartcode-image"].image_size == "512x512"


def test_a_name_of_the_gateways_own_has_limits_and_aliases() -> None:
    models = {"picture": {"model": "heartcode-image", "aliases": ["image"], "limits": {"parallel": 2}}}
    said = Painting({"models": models}).gateway["models"]
    assert list(said) == ["picture"]
    assert (said["picture"]["aliases"], said["picture"]["limits"]["parallel"]) == (["image"], 2)


def test_a_way_that_is_not_encrypted_is_said() -> None:
    painting = Painting()
    host = painting.fleet.hosts["one"]
    assert any("on the way to ai" in words for words in remarks(host, host.carried["gateway"], painting.fleet, painting.known))  # type: ignore[arg-type]


def test_one_that_listens_on_loopback_is_out_of_a_gateways_reach_elsewhere() -> None:
    with pytest.raises(InventoryError, match=r"hosts\.ai\.roles\.localai\.listen: 127\.0\.0\.1:5100 cannot be reached from one"):
        Painting(listen="127.0.0.1:5100").plan("one")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"image": "docker.io/localai/localai:latest"}, "`paddock artifacts pull --lock`"),
        ({"models": {"a": {"model": "SSD-1B"}}}, "is no repository of Hugging Face"),
        ({"models": {"a": {"model": "segmind/SSD-1B", "size": "512"}}}, "is not a size of an image"),
        ({"models": {}}, "at least 1"),
        ({"memory": "4G"}, "is not a memory limit of a container"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LocalaiSettings.model_validate({**SAID, **said})


INVENTORY = """\
fleet: home
domain: home.example
hosts:
  painter:
    address: 192.0.2.11
    roles:
      docker: {}
      localai: {image: "docker.io/example/localai:1@sha256:%s", listen: "%s", card: 0, models: {painting: {model: segmind/SSD-1B}}}
  prod:
    address: 192.0.2.12
    roles:
      gateway: {upstream: painter, models: {picture: {model: painting}}}
users:
  ann: {models: [painting, picture]}
"""


def test_a_gateway_may_have_image_servers_alone_and_users_may_name_their_models(tmp_path: Path) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY % ("a" * 64, "192.0.2.11:5100"))
    fleet = load(tmp_path / "home.yml")
    known = Knowledge(secrets={PEPPER: "p" * 40, key_name("painter"): KEY})
    parts = host_plan(fleet.hosts["prod"], fleet, known)
    (said,) = (each for part in parts.values() for each in of_kind(part, File) if each.path == CONFIGURATION)
    assert json.loads(said.data)["users"][0]["models"] == ["picture"]


def test_paddock_check_says_that_loopback_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY % ("a" * 64, "127.0.0.1:5100"))
    with pytest.raises(InventoryError, match=r"localai on painter listens on 127\.0\.0\.1:5100, out of prod's reach"):
        load(tmp_path / "home.yml")
