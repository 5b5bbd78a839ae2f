"""Which devices a server may open, by what its machine is, and how a server is found out that computes on the processor instead."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from small_fleet import Small

from inventory.errors import PaddockError
from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice
from resources import File, Release, Resource, Service
from roles.host_plan import host_plan
from roles.llama_cpp import checks as of_the_release
from roles.llama_server import checks
from roles.llama_server.cards import nodes, pin
from roles.server import Server

SERVER = Server("ai", "chat", "llama-server-chat.service", "127.0.0.1:8080", ("demo",), "instance", {}, "chat")
ADDRESS, OTHER = "0000:01:00.0", "0000:02:00.0"
JETSON = Hardware("aarch64", "Cortex-A78AE", frozenset(), 12, 62800, "ubuntu 22.04", board="NVIDIA Jetson AGX Orin Developer Kit")
GEFORCE = PciDevice(ADDRESS, "10de", "2204")
PC = Hardware("x86_64", "Ryzen", frozenset(), 16, 65536, "debian 13", gpus=(GEFORCE,))
CLOSED = replace(PC, nvidia_driver="580.95.05", vulkan=(VulkanDevice("GeForce", "nvidia", "discrete", "1.4.312"),))
NVK = replace(PC, vulkan=(VulkanDevice("GeForce", "nvk", "discrete", "1.4.305"),))


def test_a_jetson_opens_what_its_own_gpu_is_reached_by_and_waits_for_nothing_that_it_never_has() -> None:
    devices = pin(SERVER, JETSON, "cuda").devices
    assert {"/dev/nvmap", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu/igpu0/ctrl", "/dev/nvsciipc", "char-nvidia"} <= set(
        devices
    )
    assert nodes(SERVER, JETSON, "cuda") == ("/dev/nvmap",)


ORIN = replace(JETSON, nvidia_cards=(NvidiaCard("", "", "NVIDIA Orin", "8.7", 0),), nvidia_driver="540.4.0")
SPARK = replace(
    ORIN,
    gpus=(PciDevice("000f:01:00.0", "10de", "2e12"),),
    nvidia_cards=(NvidiaCard("GPU-1", "000f:01:00.0", "NVIDIA GB10", "12.1", 0),),
)
RIG = replace(CLOSED, nvidia_cards=(NvidiaCard("GPU-1", ADDRESS, "NVIDIA GeForce RTX 3090", "8.6", 24576),))


def test_a_jetsons_gpu_has_no_uuid_and_is_meant_by_its_number() -> None:
    assert pin(replace(SERVER, gpus=(0,)), ORIN, "cuda").environment == (("CUDA_VISIBLE_DEVICES", "0"),)
    assert pin(replace(SERVER, gpus=(1,), count_from=1), ORIN, "cuda").environment == (("CUDA_VISIBLE_DEVICES", "0"),)


@pytest.mark.parametrize(
    ("machine", "backend", "hidden"),
    [
        (JETSON, "cuda", False),
        (ORIN, "cuda", False),
        (SPARK, "cuda", False),
        (ORIN, "cpu", True),
        (SPARK, "vulkan", True),
        (RIG, "cuda", True),
        (None, "cuda", True),
    ],
    ids=["a Jetson", "an Orin", "a GB10", "an Orin's processor", "a GB10 on Vulkan", "a card of its own", "unknown"],
)
def test_the_unit_shows_all_of_proc_where_cuda_reads_the_machines_memory_there(
    small: Small, machine: Hardware | None, backend: str, hidden: bool
) -> None:
    """CUDA reads /proc/meminfo on them, and on a Jetson /proc/device-tree. No such machine has run this unit: it follows documentation."""
    small.roles["ai"]["rpc_worker"] = {"listen": "192.0.2.7:50052"}
    fleet = small.fleet
    releases = {name: replace(each, backend=backend) for name, each in small.context.releases.items() if isinstance(each, Release)}
    known = replace(small.context, hardware={"ai": machine} if machine else {}, releases=releases)
    plan = [each for part in host_plan(fleet.hosts["ai"], fleet, known).values() for each in part]
    units = {each.path: each.data.decode() for each in plan if isinstance(each, File) and b"ExecStart=/opt/paddock/llama.cpp" in each.data}
    assert {path.rpartition("/")[2] for path in units} == {"llama-server.service", "paddock-rpc-worker.service"}
    assert {("ProcSubset=pid" in text.splitlines()) for text in units.values()} == {hidden}
    assert all("ProtectProc=invisible" in text.splitlines() for text in units.values())


@pytest.mark.parametrize("machine", [CLOSED, replace(CLOSED, architecture="aarch64")], ids=["pc", "arm with a card"])
def test_a_card_on_the_bus_is_no_jetsons(machine: Hardware) -> None:
    assert not any("nvmap" in each for each in pin(SERVER, machine, "cuda").devices)
    assert nodes(SERVER, machine, "cuda") == ("/dev/nvidiactl", "/dev/nvidia-uvm")


def test_vulkan_opens_what_the_driver_of_the_card_opens() -> None:
    assert {"char-drm", "char-nvidia", "char-nvidia-frontend"} <= set(pin(SERVER, CLOSED, "vulkan").devices)
    assert pin(SERVER, NVK, "vulkan").devices == ("char-drm",)


def test_a_server_is_kept_to_a_card_by_vulkan_only_where_its_driver_allows_that() -> None:
    both = replace(CLOSED, gpus=(GEFORCE, PciDevice(OTHER, "1002", "744c")))
    assert pin(replace(SERVER, gpus=(1,)), both, "vulkan").devices == (f"/dev/dri/by-path/pci-{OTHER}-render",)
    with pytest.raises(
        PaddockError, match=r"instances\.chat\.gpus: NVIDIA's driver lets Vulkan open all of its cards or none: .* leave out 0$"
    ):
        pin(replace(SERVER, gpus=(0,)), both, "vulkan")
    assert pin(replace(SERVER, gpus=(0,)), NVK, "vulkan").devices == (f"/dev/dri/by-path/pci-{ADDRESS}-render",)


def test_from_an_accounts_own_server_the_cards_that_it_does_not_have_are_hidden() -> None:
    both = replace(NVK, gpus=(GEFORCE, PciDevice(OTHER, "1002", "744c")))
    own = replace(SERVER, scope="user", user="ann", gpus=(1,))
    first, second = (f"/dev/dri/by-path/pci-{ADDRESS}-render", f"/dev/dri/by-path/pci-{ADDRESS}-card")
    assert pin(own, both, "vulkan").hidden == (first, second)
    assert pin(replace(own, gpus=(0, 1)), both, "vulkan").hidden == ()
    assert pin(replace(SERVER, gpus=(1,)), both, "vulkan").hidden == ()  # which may open its own alone
    assert nodes(own, both, "vulkan") == (f"/dev/dri/by-path/pci-{OTHER}-render", first)
    closed = replace(both, nvidia_driver="580.95.05", vulkan=CLOSED.vulkan)
    assert pin(own, closed, "vulkan").hidden == (first, second, "/dev/nvidiactl")


@pytest.mark.parametrize("seen", ["", "/dev/dri/renderD129\n"])
def test_a_hidden_card_that_is_open_all_the_same_is_found_out(small: Small, seen: str) -> None:
    small.roles["ai"]["llama_cpp"] = {"accelerator": "vulkan"}
    small.roles["ai"]["llama_server"] = {
        "user": "ann",
        "instances": {"chat": {"model": "demo", "listen": "127.0.0.1:8090", "gpus": [1]}},
    }
    small.hardware = replace(NVK, gpus=(GEFORCE, PciDevice(OTHER, "1002", "744c")))
    unit = small.text("ai", "/etc/systemd/user/llama-server-chat.service")
    assert f"\nPrivateUsers=yes\nInaccessiblePaths=-/dev/dri/by-path/pci-{ADDRESS}-render\n" in unit
    machine: Any = Machine(MainPID=(0, "42"), find=(0, seen))
    plan = tuple(small.plan("ai").values())
    if not seen:
        checks.check_opens_no_card_that_is_hidden_from_it(machine, small.fleet, small.fleet.hosts["ai"], plan)
    else:
        with pytest.raises(AssertionError, match=r"chat has /dev/dri/renderD129 open, of a card that `gpus` does not name"):
            checks.check_opens_no_card_that_is_hidden_from_it(machine, small.fleet, small.fleet.hosts["ai"], plan)
    assert "find /proc/42/fd -lname" in machine.asked[-1]


CURRENT = "/opt/paddock/llama.cpp/current"
RELEASE = Release("/opt/paddock/llama.cpp/releases/1-a", CURRENT, "1", "a", "sdist", (), (), (), devices=("CUDA0",))
UNIT = File(
    "/etc/systemd/system/llama-server.service",
    f"[Service]\nUser=llama-server\nDevicePolicy=closed\nDeviceAllow=char-nvidia rw\nExecStart={CURRENT}/bin/llama-server --port 8080\n",
)
PLAN: tuple[Resource, ...] = (RELEASE, UNIT, Service("llama-server.service", restarts=(RELEASE, UNIT)))


class Machine:
    """A host that answers each command that has a word in it so."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers, self.asked = answers, list[str]()

    def run(self, command: str, *arguments: str) -> Any:
        self.asked.append(command % arguments if arguments else command)
        code, said = next(answer for word, answer in self.answers.items() if word in command)
        return SimpleNamespace(rc=code, stdout=said, stderr="")

    def check_output(self, command: str, *arguments: str) -> str:
        return str(self.run(command, *arguments).stdout)


def test_a_service_that_may_not_open_its_card_is_found_as_its_unit_lets_it() -> None:
    machine = Machine(devices=(0, "Available devices:\n  CUDA0: NVIDIA H200 (143156 MiB, 142000 MiB free)\n"))
    of_the_release.check_its_services_reach_the_devices_that_it_is_built_for(machine, PLAN)  # type: ignore[arg-type]
    assert "-p DeviceAllow=char-nvidia rw" in machine.asked[0] and "-p User=llama-server" in machine.asked[0]
    words = r"llama-server\.service cannot use CUDA0: it would compute on the processor\. It sees none"
    with pytest.raises(AssertionError, match=words):
        of_the_release.check_its_services_reach_the_devices_that_it_is_built_for(Machine(devices=(0, "Available devices:\n")), PLAN)  # type: ignore[arg-type]


def computes(machine: Machine, release: Release = RELEASE, **preset: Any) -> None:
    small = Small()
    small.roles["one"]["llama_server"] = {"models": ["demo"]}
    small.models["demo"]["preset"] = preset
    fleet = small.fleet
    checks.check_computes_on_a_card_where_it_is_built_for_one(machine, fleet, fleet.hosts["one"], (release,))  # type: ignore[arg-type]


ON_THE_PROCESSOR = {"show": (0, "7"), "pgrep": (0, "8\n"), "find": (1, "")}


def test_a_server_that_has_no_card_open_is_named() -> None:
    with pytest.raises(AssertionError, match=r"computes on the processor, not on CUDA0: no card is open in process 8"):
        computes(Machine(**ON_THE_PROCESSOR))
    computes(Machine(**{**ON_THE_PROCESSOR, "find": (0, "")}))


def test_a_server_that_is_to_compute_on_the_processor_is_not_blamed_for_it() -> None:
    computes(Machine(**ON_THE_PROCESSOR), replace(RELEASE, devices=()))
    computes(Machine(**ON_THE_PROCESSOR), replace(RELEASE, environment=(("GGML_VK_VISIBLE_DEVICES", "0"),)))
    computes(Machine(**ON_THE_PROCESSOR), **{"n-gpu-layers": 0})


@pytest.mark.parametrize(
    ("opened", "counts"),
    [
        ("/dev/nvidia0", 0),
        ("/dev/nvidiactl", 1),
        ("/dev/dri/renderD128", 0),
        ("/dev/nvmap", 0),
        ("/dev/nvgpu/igpu0/ctrl", 0),
        ("/dev/null", 1),
    ],
)
def test_what_is_open_tells_a_card_from_the_rest(opened: str, counts: int) -> None:
    assert subprocess.run(["grep", "-qE", checks.CARDS], input=opened, text=True).returncode == counts
