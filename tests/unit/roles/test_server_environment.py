"""Environment variables of the servers: who has which, what is a secret, and what is nobody's to set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from small_fleet import Small

from inventory.errors import PaddockError
from inventory.hardware import NvidiaCard, PciDevice
from resources import UNOPENED, File, Service
from roles.llama_server.plan import refusals
from roles.llama_server.settings import LlamaServerSettings

UNITS = "/etc/systemd/system"
FILES = "/etc/paddock/llama-server"


@pytest.fixture
def serving(small: Small) -> Small:
    chat = {"model": "demo", "listen": "127.0.0.1:8090", "count": 2}
    small.roles["ai"]["llama_server"] |= {"instances": {"chat": chat, "plain": {"model": "demo", "listen": "127.0.0.1:8095"}}}
    small.secrets |= {"mine": 'it\'s "a" $ecret `of` \\mine', "other": "of the instance"}
    return small


def said(small: Small, role: dict[str, Any], instance: dict[str, Any] | None = None) -> Small:
    small.roles["ai"]["llama_server"]["environment"] = role
    small.roles["ai"]["llama_server"]["instances"]["chat"]["environment"] = instance or {}
    return small


def variables(small: Small, unit: str) -> list[str]:
    return [line for line in small.text("ai", f"{UNITS}/{unit}.service").splitlines() if line.startswith("Environment")]


def service(small: Small, unit: str) -> Service:
    found = small.plan("ai")[f"service:{unit}.service"]
    assert isinstance(found, Service)
    return found


def test_a_variable_of_the_role_is_of_all_servers_and_an_instance_may_say_another(serving: Small) -> None:
    said(serving, {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": 1, "OWN": "50% of $HOME"}, {"OWN": 0.5, "MORE": "a b"})
    shared = ["Environment=GGML_CUDA_ENABLE_UNIFIED_MEMORY=1", 'Environment="OWN=50%% of $HOME"']
    assert variables(serving, "llama-server") == variables(serving, "llama-server-plain") == shared
    assert variables(serving, "llama-server-chat-2") == [shared[0], "Environment=OWN=0.5", 'Environment="MORE=a b"']


def test_a_secret_is_in_a_file_that_root_alone_reads_and_in_no_unit(serving: Small) -> None:
    said(serving, {"TOKEN": {"secret": "mine"}}, {"TOKEN": {"secret": "other"}, "PLAIN": "x"})
    assert variables(serving, "llama-server") == [f"EnvironmentFile={FILES}/llama-server.env"]
    assert variables(serving, "llama-server-chat-1") == [f"EnvironmentFile={FILES}/llama-server-chat-1.env", "Environment=PLAIN=x"]
    file = serving.plan("ai")[f"file:{FILES}/llama-server.env"]
    assert isinstance(file, File) and (file.secret, file.owner, file.mode) == (True, "root", 0o600)
    assert file.data.decode().splitlines()[1:] == ['TOKEN="it\'s \\"a\\" \\$ecret \\`of\\` \\\\mine"']
    assert serving.text("ai", f"{FILES}/llama-server-chat-2.env").splitlines()[1:] == ['TOKEN="of the instance"']
    others = [each for each in serving.plan("ai").values() if isinstance(each, File) and not each.secret]
    assert not [each.path for each in others if b"ecret" in each.data or b"of the instance" in each.data]


def test_an_account_reads_the_secrets_of_its_own_servers(serving: Small) -> None:
    serving.roles["ai"]["llama_server"]["user"] = "ann"
    file = said(serving, {"TOKEN": {"secret": "mine"}}).plan("ai")[f"file:{FILES}/llama-server.env"]
    assert isinstance(file, File) and (file.owner, file.mode) == ("ann", 0o400)
    assert f"EnvironmentFile={FILES}/llama-server.env\n" in serving.text("ai", "/etc/systemd/user/llama-server.service")


def test_another_value_restarts_the_servers_that_have_it(serving: Small) -> None:
    said(serving, {}, {"TOKEN": {"secret": "mine"}})
    before = {unit: service(serving, unit).started for unit in ("llama-server", "llama-server-chat-1")}
    serving.secrets["mine"] = "new"
    assert service(serving, "llama-server-chat-1").started != before["llama-server-chat-1"]
    assert service(serving, "llama-server").started == before["llama-server"]
    serving.secrets["mine"] = UNOPENED
    assert service(serving, "llama-server-chat-1").started == UNOPENED


def test_a_secret_that_nobody_has_set_yet_is_told_before_anything_is_touched(serving: Small) -> None:
    said(serving, {"A": {"secret": "mine"}, "B": {"secret": "none"}}, {"C": {"secret": "neither"}})
    fleet, settings = serving.fleet, serving.fleet.role("ai", "llama_server", LlamaServerSettings)
    assert settings
    where, way = "hosts.ai.roles.llama_server", "`paddock secrets set {0}`, of a lab with --lab"
    assert list(refusals(fleet.hosts["ai"], settings, fleet, serving.context)) == [
        f"{where}.environment.B: there is no secret none yet: {way.format('none')}",
        f"{where}.instances.chat.environment.C: there is no secret neither yet: {way.format('neither')}",
    ]


def test_a_secret_that_no_file_can_hold_is_told_without_what_is_in_it(serving: Small) -> None:
    serving.secrets["mine"] = "first\nsecond"
    with pytest.raises(PaddockError, match=r"environment\.TOKEN: the secret has a line break") as raised:
        said(serving, {"TOKEN": {"secret": "mine"}}).plan("ai")
    assert "first" not in str(raised.value)


def test_what_keeps_a_server_to_its_cards_is_not_overridden(serving: Small) -> None:
    card = NvidiaCard("GPU-00000000-0000-0000-0000-000000000000", "0000:01:00.0", "NVIDIA P104-100", "6.1", 8192)
    rig = replace(serving.hardware, nvidia_cards=(card,), gpus=(PciDevice(card.address, "10de", "1b87"),), nvidia_driver="580.95.05")
    serving.hardware = rig
    serving.roles["ai"]["gpu"] = {"nvidia": {"driver": "installed"}}
    serving.roles["ai"]["llama_server"]["instances"]["chat"] |= {"count": 1, "gpus": [0]}
    words = r"instances\.chat\.environment\.CUDA_VISIBLE_DEVICES: Paddock sets it to GPU-0.* for this server: leave it out"
    with pytest.raises(PaddockError, match=words):
        said(serving, {}, {"CUDA_VISIBLE_DEVICES": "1"}).plan("ai")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "is an option of llama-server") for name in ("LLAMA_ARG_TOOLS", "LLAMA_ARG_HOST", "LLAMA_API_KEY", "HF_TOKEN")),
        *((name, "would change how llama-server is called") for name in ("AIP_MODE", "LLAMA_SERVER_ROUTER_PORT", "LLAMA_APP_CMD")),
        *((name, "is systemd's to set") for name in ("INVOCATION_ID", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY")),
        *((name, "is no name of a variable") for name in ("A-B", "1A", "A B", "A=B", "")),
    ],
)
def test_what_is_not_an_inventorys_to_set_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LlamaServerSettings.model_validate({"environment": {name: "x"}})


@pytest.mark.parametrize(
    ("name", "value", "is_refused"),
    [
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", 0, True),
        ("GGML_CUDA_NO_PINNED", "off", True),
        ("GGML_VK_DISABLE_COOPMAT", "false", True),
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", 1, False),
        ("GGML_CUDA_DISABLE_FUSION", 0, False),
        ("OMP_NUM_THREADS", 0, False),
    ],
)
def test_a_variable_that_is_on_whatever_its_value_is_cannot_be_off(name: str, value: object, is_refused: bool) -> None:
    instance = {"chat": {"model": "demo", "listen": "127.0.0.1:8081", "environment": {name: value}}}
    for settings in ({"models": ["demo"], "environment": {name: value}}, {"instances": instance}):
        if is_refused:
            with pytest.raises(ValidationError, match=f'"{name}" is on whatever its value is: leave it out'):
                LlamaServerSettings.model_validate(settings)
        else:
            LlamaServerSettings.model_validate(settings)


def test_cuda_reads_how_much_memory_there_is_where_it_may_take_the_hosts(serving: Small) -> None:
    card = NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA GeForce RTX 3090", "8.6", 24576)
    serving.hardware = replace(
        serving.hardware, gpus=(PciDevice("0000:01:00.0", "10de", "2204"),), nvidia_driver="580.95.05", nvidia_cards=(card,)
    )
    said(serving, {}, {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": 1})
    hides = {unit: "ProcSubset=pid" in serving.text("ai", f"{UNITS}/{unit}.service") for unit in ("llama-server", "llama-server-chat-1")}
    assert hides == {"llama-server": True, "llama-server-chat-1": False}
