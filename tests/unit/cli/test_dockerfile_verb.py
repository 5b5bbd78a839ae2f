"""`paddock artifacts dockerfile`: what it shows, what it writes, and what it refuses."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from cli import main
from control.state.fleet import FleetState
from inventory.hardware import Hardware

CELERON = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=15900, distribution="debian 13", libc="2.41")

INVENTORY = """
fleet: home
domain: home.example
hosts:
  rig: {address: 192.0.2.10, roles: {llama_cpp: {source: {path: tree}, ui: false}}}
  new: {address: 192.0.2.11, roles: {llama_cpp: {}}}
"""


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "home.yml"
    path.write_text(INVENTORY)
    for name in ("CMakeLists.txt", "include/llama.h"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("here\n")
    FleetState.of(path, "home").save_hardware("rig", CELERON)
    return path


def run(inventory: Path, *arguments: str) -> int:
    return main(["-i", str(inventory), "artifacts", "dockerfile", *arguments])


def test_it_shows_the_dockerfile_for_the_hardware_that_is_known(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(inventory, "rig") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# Written by Paddock.") and "\nFROM debian:13 AS build\n" in shown


def test_it_writes_the_script_and_the_source_that_a_builder_would_get(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = inventory.parent / "build"
    assert run(inventory, "rig", "--to", str(build), "--runtime-image", "nvidia/cuda:12.4.1-runtime-ubuntu22.04") == 0
    assert sorted(each.name for each in build.iterdir()) == ["Dockerfile", "build.sh", "source.tar.gz"]
    assert "\nFROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\n" in (build / "Dockerfile").read_text()
    assert "-DGGML_AVX=OFF" in (build / "build.sh").read_text()
    with tarfile.open(build / "source.tar.gz") as tar:
        assert "llama.cpp/include/llama.h" in tar.getnames()
    assert capsys.readouterr().out.startswith("docker build --tag paddock/llama.cpp:")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("new",), 1, "nothing is known of its hardware yet: `paddock plan --limit new` looks at it"),
        (("rgi",), 2, 'no host with the role llama_cpp is called "rgi"'),
        (("rig", "--builder-image", "debian:13\nRUN evil"), 2, "is no image, such as debian:13"),
    ],
)
def test_what_it_cannot_do_is_told(
    arguments: tuple[str, ...], code: int, words: str, inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(inventory, *arguments) == code
    assert words in capsys.readouterr().err
