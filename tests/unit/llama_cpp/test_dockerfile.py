"""The Dockerfile that compiles a host's profile, and the one that a host makes an image of its release with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware, NvidiaCard, PciDevice
from resources import Release
from roles.dockerfile import dockerfile
from roles.llama_cpp.dockerfile import CUDA, base_images, context
from roles.llama_cpp.releases import releases

CELERON = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=15900, distribution="debian 13", libc="2.41")
PASCAL = replace(
    CELERON,
    gpus=(PciDevice("0000:01:00.0", "10de", "1b06", "GTX 1080 Ti"),),
    nvidia_driver="550.163.01",
    nvidia_cards=(NvidiaCard("GPU-1", "0000:01:00.0", "GTX 1080 Ti", "6.1", 11264),),
)


def release(hardware: Hardware, **settings: object) -> Release:
    host = {"name": "rig", "address": "192.0.2.10", "roles": {"llama_cpp": settings}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"rig": host}, "models": {}})
    found = releases(fleet, {"rig": hardware}, {})["rig"]
    assert isinstance(found, Release)
    return found


def test_pascal_without_avx_is_compiled_on_nvidias_images_with_the_flags_of_the_profile() -> None:
    one = release(PASCAL)
    made = context(one, *base_images(one, PASCAL))
    assert f"FROM {CUDA[0]} AS build\n" in made.dockerfile and f"\nFROM {CUDA[1]}\n" in made.dockerfile
    for option in ("-DGGML_CUDA=ON", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF", "-DGGML_NATIVE=OFF"):
        assert option in made.script
    assert "-DCMAKE_CUDA_ARCHITECTURES=61" in made.script
    assert "-DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc" in made.script and "/usr/bin/nvcc" not in made.script
    assert "nvidia-cuda-toolkit" not in made.dockerfile and "libcudart" not in made.dockerfile


def test_every_option_of_the_build_on_a_host_is_there_but_where_its_compilers_are() -> None:
    one = release(PASCAL)
    script = context(one, "here", "there").script
    left = [f"-D{name}={value}" for name, value in one.options if f"-D{name}={value}" not in script]
    assert all("COMPILER" in each for each in left)


def test_a_processor_alone_is_compiled_for_on_the_hosts_own_distribution() -> None:
    for name, image in {"debian 13": "debian:13", "ubuntu 24.04": "ubuntu:24.04", "raspbian 12": "debian:13"}.items():
        machine = replace(CELERON, distribution=name)
        assert base_images(release(CELERON), machine) == (image, image)


def test_another_image_to_build_in_makes_another_release() -> None:
    one = release(CELERON)
    assert context(one, "debian:12", "debian:13").image != context(one, "debian:13", "debian:13").image
    assert context(one, "debian:13", "debian:12").image == context(one, "debian:13", "debian:13").image


def test_packages_are_not_compiled() -> None:
    one = release(replace(CELERON, distribution="debian sid"), source={"packages": "1:0.7.0+dfsg-2", "ggml": "0.27.0-1"})
    with pytest.raises(PaddockError, match="made of the distribution's packages"):
        context(one, "debian:13", "debian:13")


def test_an_image_of_a_release_copies_it_whole_and_has_no_stage_that_builds() -> None:
    one = release(CELERON)
    text = dockerfile(one, "debian:13")
    assert text.count("\nFROM ") == 1 and f"COPY . {one.path}/" in text
    assert f"ln -s {one.path} {one.current}" in text
