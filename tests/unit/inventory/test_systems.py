"""The inventories beside the demo: each is a fleet, and its hosts' builds are known, with their reasons, without asking anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli import main
from control.state.fleet import FleetState
from facts.hardware import HardwareFact
from inventory.hardware import Hardware
from inventory.load import load

ROOT = Path(__file__).parents[3]
INVENTORIES = ROOT / "inventory"
RECORDED = ROOT / "tests" / "unit" / "hardware" / "recorded"

# Inventory → the machine that each of its hosts is.
MACHINES = {
    "ai-server": {"halo": "strix-halo", "door": "vm-without-avx", "laptop": "vm-without-avx"},
    "llamaserve": {"box": "vm-without-avx"},
    "local-ai": {"pea": "mining-rig", "prod": "vm-without-avx"},
    "pi-llm": {"pi": "raspberry-pi-5", "workshop": "lab-container"},
}

# Inventory → what is told of the one host that serves: who builds its release, what for, and why.
TOLD = {
    "ai-server": (
        "halo",
        "x86-64 with AVX-512, for Vulkan, built by halo",
        "the inventory asks for Vulkan; AMD Radeon Graphics (RADV GFX1151) (radv)",
    ),
    "llamaserve": ("box", "x86-64 without AVX, for the CPU, built by box", "there is no GPU"),
    "local-ai": (
        "pea",
        "x86-64 without AVX, for CUDA 6.1, built by pea",
        "the inventory asks for CUDA; 8 × NVIDIA P104-100 (6.1)",
    ),
    "pi-llm": ("pi", "Cortex-A76 (armv8.2-a+dotprod+fp16), for the CPU, built by workshop", "the inventory asks for the CPU"),
}

Paddock = Callable[..., int]


def machine(name: str) -> Hardware:
    return HardwareFact().process((RECORDED / f"{name}.txt").read_text().splitlines())


def remember(inventory: Path, machines: dict[str, str]) -> None:
    """What a run has read of the hosts, in the fleet's state."""
    state = FleetState.of(inventory, load(inventory).name)
    for host, name in machines.items():
        state.save_hardware(host, machine(name))


@pytest.fixture(autouse=True)
def a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_STATE", str(tmp_path / "state"))


@pytest.mark.parametrize("name", MACHINES)
def test_every_host_of_an_inventory_is_a_recorded_machine(name: str) -> None:
    assert set(load(INVENTORIES / f"{name}.yml").hosts) == set(MACHINES[name])


def test_no_inventory_was_forgotten() -> None:
    assert {path.stem for path in INVENTORIES.glob("*.yml")} == {"demo", *MACHINES}


@pytest.mark.parametrize("name", TOLD)
def test_plan_names_profile_and_reason_without_asking_a_host(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = INVENTORIES / f"{name}.yml"
    remember(inventory, MACHINES[name])
    assert main(["-i", str(inventory), "plan", "--offline"]) == 0
    told = capsys.readouterr()
    host, release, why = TOLD[name]
    heading, first, *reasons = told.out.splitlines()
    assert heading == f"{host}:"
    assert first.endswith(f": {release}")
    assert [line.split(maxsplit=1)[1] for line in reasons if line.split()[0] == "backend"] == [why]
    assert told.err == ""


def test_one_inventory_builds_for_whatever_the_box_is(capsys: pytest.CaptureFixture[str]) -> None:
    inventory = INVENTORIES / "llamaserve.yml"
    profiles = []
    for name in ("core-2-q9550", "zen-4-rtx-3090", "strix-halo"):
        remember(inventory, {"box": name})
        assert main(["-i", str(inventory), "plan", "--offline"]) == 0
        profiles.append(capsys.readouterr().out.splitlines()[1].partition(": ")[2].rpartition(", built by")[0])
    assert profiles == ["x86-64 without SSE4.2, for the CPU", "x86-64 with AVX-512, for CUDA 8.6", "x86-64 with AVX-512, for Vulkan"]


@pytest.mark.parametrize("name", MACHINES)
def test_what_would_land_is_rendered_without_asking_a_host(name: str, tmp_path: Path) -> None:
    inventory = INVENTORIES / f"{name}.yml"
    remember(inventory, MACHINES[name])
    assert main(["-i", str(inventory), "render", "--to", str(tmp_path / "rendered")]) == 0
    host = TOLD[name][0]
    for server in load(inventory).servers(host):
        assert (tmp_path / "rendered" / host / f"etc/systemd/system/{server.unit}").is_file()
        if server.kind == "router":
            presets = (tmp_path / "rendered" / host / "etc/paddock/llama-server/presets.ini").read_text().splitlines()
            assert [line.strip("[]") for line in presets if line.startswith("[") and line != "[*]"] == list(server.models)


@pytest.mark.parametrize("name", MACHINES)
def test_what_would_land_is_rendered_before_anybody_has_looked_at_a_host(name: str) -> None:
    assert main(["-i", str(INVENTORIES / f"{name}.yml"), "render"]) == 0


def test_rocm_is_answered_with_vulkan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = tmp_path / "ai-server.yml"
    inventory.write_text((INVENTORIES / "ai-server.yml").read_text().replace("accelerator: vulkan", "accelerator: rocm"))
    assert main(["-i", str(inventory), "plan", "--offline"]) == 2
    assert capsys.readouterr().err.endswith(
        'hosts.halo.roles.llama_cpp.accelerator: "rocm" is not built from source: write vulkan for AMD cards,'
        " or hip with the packages of source.packages\n"
    )


def test_a_rig_whose_driver_has_left_its_cards_behind_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = tmp_path / "local-ai.yml"
    inventory.write_text((INVENTORIES / "local-ai.yml").read_text().replace("driver: installed", "driver: nvidia-headless-590-server"))
    remember(inventory, MACHINES["local-ai"])
    assert main(["-i", str(inventory), "render"]) == 1
    assert (
        "nvidia-headless-590-server is not for this host: driver 590 does not drive 8 × NVIDIA P104-100 (6.1), 580 is the last for"
        " cards before Turing" in capsys.readouterr().err
    )
