"""llama-servers in containers: what a unit then starts, of which image, with what; and what stays as it is."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from small_fleet import HARDWARE, Small

from inventory.hardware import NvidiaCard, PciDevice
from resources import File, LocalImage, Release, Resource, Service
from roles.llama_cpp.gate import instances
from roles.references import Whole

BASE = "debian:13@sha256:" + "5eed" * 16
UNIT = "/etc/systemd/system/llama-server-chat.service"


@pytest.fixture
def small() -> Small:
    made = Small()
    made.roles["ai"]["docker"] = {}
    made.roles["ai"]["llama_server"] |= {
        "api_key": True,
        "runtime": "container",
        "base_image": BASE,
        "instances": {"chat": {"model": "demo", "listen": "127.0.0.1:8081", "memory_max": "2G"}},
    }
    return made


def settings(small: Small) -> dict[str, Any]:
    found: dict[str, Any] = small.roles["ai"]["llama_server"]
    return found


def command(small: Small, unit: str = UNIT) -> list[str]:
    """Of the unit's ExecStart=."""
    text = small.text("ai", unit).replace("\\\n", " ")
    (line,) = (each for each in text.splitlines() if each.startswith("ExecStart="))
    return shlex.split(line.removeprefix("ExecStart="))


def values(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, each in enumerate(words) if each == option]


def image(plan: dict[str, Resource]) -> LocalImage:
    found = plan["localimage:paddock/llama.cpp"]
    assert isinstance(found, LocalImage)
    return found


def test_the_image_is_made_of_the_hosts_release_on_the_base_that_is_named(small: Small) -> None:
    plan = small.plan("ai")
    release = plan["release:/opt/paddock/llama.cpp/current"]
    assert isinstance(release, Release)
    one = image(plan)
    assert one.context == release.path and one.tag.startswith(f"{release.name}-")
    text = small.text("ai", one.dockerfile)
    assert f"\nFROM {BASE}\n" in text and f"\nCOPY . {release.path}/\n" in text and "AS build" not in text
    assert one.base == BASE and f"image:{BASE}" not in plan


def test_another_base_is_another_image_which_every_server_is_started_anew_for(small: Small) -> None:
    before, old = image(small.plan("ai")), command(small)
    settings(small)["base_image"] = BASE.replace("debian:13", "ubuntu:24.04")
    after = image(small.plan("ai"))
    assert before.inputs != after.inputs and before.reference in old and after.reference in command(small)


def test_llama_server_itself_is_called_as_on_the_host(small: Small) -> None:
    program = "/opt/paddock/llama.cpp/current/bin/llama-server"
    contained = command(small)
    settings(small)["runtime"] = "native"
    assert contained[contained.index(program) :] == command(small)


def test_a_container_reads_its_models_and_presets_and_writes_where_its_server_may(small: Small) -> None:
    mounts = values(command(small, "/etc/systemd/system/llama-server.service"), "--mount")
    read = {each.partition("target=")[2].removesuffix(",readonly") for each in mounts if each.endswith(",readonly")}
    written = {each.partition("target=")[2] for each in mounts if not each.endswith(",readonly")}
    models = {"/var/lib/paddock/models/demo.gguf", "/var/lib/paddock/models/code.gguf"}
    assert read == {*models, "/etc/paddock/llama-server/presets.ini", "/run/secrets/api-key.env"}
    assert written == {"/var/lib/llama-server", "/run/llama-server/llama-server"}


def test_it_is_alone_and_may_nothing(small: Small) -> None:
    words = command(small)
    assert values(words, "--network") == ["none"] and values(words, "--cap-drop") == ["ALL"] and "--read-only" in words
    assert values(words, "--security-opt") == ["no-new-privileges"] and values(words, "--pull") == ["never"]
    settings(small)["egress"] = True
    assert values(command(small), "--network") == ["host"]


def test_memory_is_limited_where_the_program_is(small: Small) -> None:
    assert values(command(small), "--memory") == ["2g"]
    assert "MemoryMax=" not in small.text("ai", UNIT)


def test_a_key_is_in_a_file_that_llama_servers_group_reads_and_in_no_argument(small: Small) -> None:
    file = small.plan("ai")["file:/etc/paddock/llama-server/api-key.env"]
    assert isinstance(file, File) and (file.owner, file.group, file.mode) == ("root", "llama-server", 0o640)
    assert not [each for each in values(command(small), "--env") if "KEY" in each]
    settings(small)["runtime"] = "native"
    native = small.plan("ai")["file:/etc/paddock/llama-server/api-key.env"]
    assert isinstance(native, File) and (native.group, native.mode) == ("root", 0o600)


def test_a_cards_uuid_is_its_name_for_cdi(small: Small) -> None:
    cards = [NvidiaCard(f"GPU-{at}", f"0000:0{at}:00.0", "Quadro P4000", "6.1", 8192) for at in (1, 2)]
    devices = tuple(PciDevice(each.address, "10de", "1bb1", each.name) for each in cards)
    small.hardware = replace(HARDWARE, gpus=devices, nvidia_driver="550.163.01", nvidia_cards=tuple(cards))
    settings(small)["instances"]["chat"]["gpus"] = [1]
    words = command(small)
    assert values(words, "--device") == ["nvidia.com/gpu=GPU-2"]
    assert "CUDA_VISIBLE_DEVICES=GPU-2" in values(words, "--env")
    assert values(command(small, "/etc/systemd/system/llama-server.service"), "--device") == ["nvidia.com/gpu=all"]


def test_names_ports_and_what_is_in_front_stay(small: Small) -> None:
    contained = small.plan("ai")
    settings(small)["runtime"] = "native"
    native = small.plan("ai")
    assert {each.id for each in native.values() if isinstance(each, Service)} == {
        each.id for each in contained.values() if isinstance(each, Service)
    }
    for name in native.keys() & contained.keys():
        if "paddock-proxy-" in name or name.startswith("port:"):
            assert native[name] == contained[name], name
    assert not [name for name in native if "image" in name or name.endswith("container.sh")]


def test_a_changed_preset_is_one_servers_alone(small: Small) -> None:
    def started() -> dict[str, str]:
        return {each.unit: each.started for each in small.plan("ai").values() if isinstance(each, Service)}

    before = started()
    settings(small)["instances"]["chat"]["preset"] = {"ctx-size": 4096}
    assert {name for name, digest in started().items() if digest != before[name]} == {"llama-server-chat.service"}


def test_the_gate_tries_the_release_without_the_right_to_start_containers(small: Small) -> None:
    plan = small.plan("ai")
    release = plan["release:/opt/paddock/llama.cpp/current"]
    assert isinstance(release, Release)
    found = {each.unit: each for each in instances(plan.values(), release)}
    assert found.keys() == {"llama-server.service", "llama-server-chat.service"}
    one = found["llama-server-chat.service"]
    assert one.arguments[0] == "--host" and "--mount" not in one.arguments
    assert "SupplementaryGroups=docker" not in one.properties and "User=llama-server" in one.properties
    assert "SupplementaryGroups=docker" in small.text("ai", UNIT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"docker": None}, "a container needs an engine: add the role docker to ai"),
        ({"base_image": None}, "what is the image to be built on?"),
        ({"user": "ann"}, "the account ann cannot start containers"),
    ],
)
def test_what_a_container_cannot_have_is_told(small: Small, change: dict[str, Any], words: str) -> None:
    if "docker" in change:
        del small.roles["ai"]["docker"]
    else:
        settings(small).update(change)
    fleet = small.fleet
    roles = {name: host.carried for name, host in fleet.hosts.items()}
    whole = Whole(roles, dict.fromkeys(fleet.models, True), tuple(fleet.clients), "home.example")
    found = fleet.hosts["ai"].carried["llama_server"].references("ai", whole)
    assert [each for each in found if words in each.words]


def test_an_image_without_its_digest_is_refused(small: Small) -> None:
    settings(small)["base_image"] = "debian:13"
    with pytest.raises(ValueError, match="is no image with its digest"):
        _ = small.fleet
