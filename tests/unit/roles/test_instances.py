"""Instances: servers of one fixed model, each with a port of its own, and kept to its card however a driver counts them."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from small_fleet import Small

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware, NvidiaCard, PciDevice
from inventory.options import SHIPPED, Option, Options, read
from resources import Service
from roles.llama_server.cards import pin
from roles.server import Server
from tests.share import spread

ADDRESSES = [f"0000:{bus:02x}:00.0" for bus in range(1, 9)]
CARDS = [
    NvidiaCard(f"GPU-{at:08x}-0000-0000-0000-000000000000", place, "NVIDIA P104-100", "6.1", 8192) for at, place in enumerate(ADDRESSES)
]
RIG = Hardware(
    "x86_64",
    "Celeron",
    frozenset({"sse4_2"}),
    cores=2,
    memory_mib=15900,
    distribution="debian 13",
    gpus=tuple(PciDevice(each, "10de", "1b87") for each in ADDRESSES),
    nvidia_driver="580.95.05",
    nvidia_cards=tuple(CARDS),
)


@pytest.fixture
def rig() -> Small:
    """Seven chats and seven embedders, as local-ai has them, on cards that people count from one."""
    small = Small()
    small.hardware = RIG
    chat = {"model": "demo", "listen": "0.0.0.0:8080", "gpus": [1, 2, 3], "preset": {"cache-reuse": 256}, "memory_max": "2G"}
    story = {"model": "code", "listen": "0.0.0.0:8083", "gpus": [4, 5, 6, 7]}
    embed = {"model": "embed", "listen": "0.0.0.0:8090", "gpus": [1, 2, 3, 4, 5, 6, 7]}
    small.models["embed"] = {"preset": {"embeddings": True}}
    small.roles["ai"]["gpu"] = {"count_from": 1, "nvidia": {"driver": "installed"}}
    small.roles["ai"]["llama_server"] = {"preset": {"ctx-size": 16384}, "instances": {"chat": chat, "story": story, "embed": embed}}
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["upstream"] = "ai/chat"
    return small


def unit(small: Small, name: str) -> str:
    return small.text("ai", f"/etc/systemd/system/llama-server-{name}.service")


def variables(text: str) -> dict[str, str]:
    return dict(line.removeprefix("Environment=").split("=", 1) for line in text.splitlines() if line.startswith("Environment="))


def test_each_has_a_unit_a_port_and_a_card(rig: Small) -> None:
    found = [(each.name, each.port, each.gpus) for each in rig.fleet.servers("ai")]
    assert found[:4] == [("chat-1", 8080, (1,)), ("chat-2", 8081, (2,)), ("chat-3", 8082, (3,)), ("story-1", 8083, (4,))]
    assert [port for _, port, _ in found[7:]] == list(range(8090, 8097))
    services = [each for each in rig.plan("ai").values() if isinstance(each, Service) and each.name.startswith("llama-server")]
    assert [each.name for each in services] == [f"llama-server-{name}.service" for name, *_ in found]
    assert variables(unit(rig, "story-1"))["CUDA_VISIBLE_DEVICES"] == CARDS[3].uuid


def test_however_the_driver_lists_them_each_keeps_its_card(rig: Small) -> None:
    before = {each.name: unit(rig, each.name) for each in rig.fleet.servers("ai")}
    for seed in spread("orders of cards", range(20), 6):
        order = random.Random(seed)
        rig.hardware = replace(RIG, nvidia_cards=tuple(order.sample(CARDS, 8)), gpus=tuple(order.sample(RIG.gpus, 8)))
        assert {each.name: unit(rig, each.name) for each in rig.fleet.servers("ai")} == before


def test_a_card_by_its_address_or_uuid_is_the_same_card(rig: Small) -> None:
    by_number = variables(unit(rig, "chat-1"))
    instance = rig.roles["ai"]["llama_server"]["instances"]["chat"]
    for way in ("0000:01:00.0", "01:00.0", CARDS[0].uuid):
        instance["gpus"] = [way, 2, 3]
        assert variables(unit(rig, "chat-1")) == by_number


def test_one_server_may_have_several_cards(rig: Small) -> None:
    rig.roles["ai"]["llama_server"]["instances"]["chat"]["gpus"] = [[1, 2], [3]]
    assert variables(unit(rig, "chat-1"))["CUDA_VISIBLE_DEVICES"] == f"{CARDS[0].uuid},{CARDS[1].uuid}"


def test_a_card_that_is_not_there_is_told_with_those_that_are(rig: Small) -> None:
    rig.roles["ai"]["llama_server"]["instances"]["chat"]["gpus"] = [1, 2, 9]
    words = (
        r"roles\.llama_server\.instances\.chat\.gpus: there is no card 9 in ai, it has 1 \(NVIDIA P104-100\), 2 .*, 8 \(NVIDIA P104-100\)$"
    )
    with pytest.raises(PaddockError, match=words):
        rig.plan("ai")


def test_of_what_vulkan_would_use_only_its_own_card_may_be_opened() -> None:
    server = Server("halo", "chat", "llama-server-chat.service", "127.0.0.1:8080", ("demo",), "instance", {}, "chat", (1,))
    radeons = replace(RIG, nvidia_cards=(), gpus=tuple(PciDevice(each, "1002", "744c") for each in reversed(ADDRESSES[:2])))
    assert pin(server, radeons, "vulkan").devices == ("/dev/dri/by-path/pci-0000:02:00.0-render",)


def test_what_the_server_says_goes_before_the_model_and_that_before_the_role(rig: Small) -> None:
    rig.models["demo"] = {"preset": {"ctx-size": 4096, "cache-reuse": 1, "temp": 0.7}}
    text = unit(rig, "chat-1")
    assert "--ctx-size 4096 " in text
    assert "--cache-reuse 256 " in text
    assert "--temp 0.7 " in text
    assert "--ctx-size 16384 " in unit(rig, "story-1")


def test_an_instance_answers_to_the_fleets_name_of_its_model(rig: Small) -> None:
    assert "--model /var/lib/paddock/models/demo.gguf --alias demo " in unit(rig, "chat-1")


def test_an_instance_answers_to_the_aliases_of_its_model_too_where_its_version_takes_them(rig: Small) -> None:
    rig.models["demo"] = {"aliases": ["qwen2.5:3b", "gpt-4o"]}
    assert " --alias demo,qwen2.5:3b,gpt-4o " in unit(rig, "chat-1")
    older = Options("a", "of old", (Option(("--alias",), "text"),))
    rig.options = older
    assert " --alias demo " in unit(rig, "chat-1")


def test_an_instance_has_what_no_preset_file_could_hold(rig: Small) -> None:
    chat = rig.roles["ai"]["llama_server"]["instances"]["chat"]
    chat["preset"] = {"samplers": ["top_k", "min_p"], "reverse-prompt": ["# User ", "$HOME;%h"], "lora": ["/srv/a.gguf", "/srv/b.gguf"]}
    rig.options = read(SHIPPED.read_text())
    text = unit(rig, "chat-1")
    assert ' --samplers "top_k;min_p" ' in text
    assert ' --reverse-prompt "# User " --reverse-prompt "$$HOME;%%h" ' in text
    assert " --lora /srv/a.gguf,/srv/b.gguf " in text


@pytest.mark.parametrize(("upstreams", "most"), [(("ai/chat",), 1024), (("ai/chat", "ai/story", "ai/embed"), 585)])
def test_a_tunnel_to_many_servers_takes_no_more_connections_than_a_host_has_files(
    rig: Small, upstreams: tuple[str, ...], most: int
) -> None:
    """What a host may open at most is 20,000 files where containers run."""
    rig.roles["door"]["caddy"]["sites"] = {f"{each[3:]}.home.example": {"upstream": each} for each in upstreams}
    for host, name, unit, each in (
        ("ai", "http-tunnel/tunnel", "http-tunnel", most),
        ("door", "caddy-tunnel/ai.8080", "caddy-tunnel-ai.8080", 1024),
    ):
        configuration = rig.text(host, f"/etc/paddock/{name}.cfg")
        limits = [int(line.split()[1]) for line in configuration.splitlines() if line.startswith("  maxconn ")]
        (files,) = re.findall(r"\nLimitNOFILE=([0-9]+)\n", rig.text(host, f"/etc/systemd/system/paddock-{unit}.service"))
        assert limits == [each * configuration.count("\nlisten "), each] and 2 * limits[0] < int(files) < 20_000


def test_an_instance_has_its_own_share_of_memory(rig: Small) -> None:
    assert "\nMemoryMax=2G\n" in unit(rig, "chat-2")
    assert "MemoryMax" not in unit(rig, "embed-2")


def test_a_proxy_spreads_requests_over_instances_that_are_alike(rig: Small) -> None:
    text = rig.text("door", "/etc/caddy/paddock/sites.caddy")
    sockets = " ".join(f"unix//run/paddock/hop-ai.{port}.sock" for port in (8080, 8081, 8082))
    assert f"reverse_proxy {sockets} {{\n" in text and "\t\t\t\tlb_policy least_conn\n" in text


def test_how_many_there_are_is_said_once_or_alike() -> None:
    instances = {"chat": {"model": "demo", "listen": "127.0.0.1:8080", "count": 2, "gpus": [1, 2, 3]}}
    hosts = {"ai": {"name": "ai", "address": "192.0.2.10", "roles": {"llama_server": {"instances": instances}}}}
    with pytest.raises(ValueError, match="has different numbers of servers: count has 2, gpus has 3"):
        Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})


def test_of_one_option_under_two_names_what_is_said_last_counts(rig: Small) -> None:
    server = rig.roles["ai"]["llama_server"]
    server["preset"] = {"c": 512}
    rig.models["demo"] = {"preset": {"ctx-size": 1024}}
    server["instances"]["chat"]["preset"] = {"c": 3072}
    assert list(rig.fleet.preset(rig.fleet.servers("ai")[0], "demo").items()) == [("ctx-size", 1024), ("c", 3072)]


def test_a_server_with_a_list_of_no_card_is_refused() -> None:
    instances = {"chat": {"model": "demo", "listen": "127.0.0.1:8080", "gpus": [[]]}}
    hosts = {"ai": {"name": "ai", "address": "192.0.2.10", "roles": {"llama_server": {"instances": instances}}}}
    with pytest.raises(ValueError, match="at least 1"):
        Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})
