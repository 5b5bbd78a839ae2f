"""A release of the distribution's packages: which ones it is made of, who can have it, and how they are unpacked."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.hardware import Hardware, PciDevice
from inventory.knowledge import Artifact
from resources import Release
from roles.devices import devices
from roles.llama_cpp.recipe import packages, script
from roles.llama_cpp.releases import releases
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_server.cards import installed, pin
from roles.source import Source
from tests.unit.hardware.machines import MACHINES
from tests.unit.llama_cpp.test_releases import fleet_of

SOURCE = {"packages": "1:0.7.0+dfsg-2", "ggml": "0.27.0-1"}
SID = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=3839, distribution="debian forky", libc="2.43")
RADEON = PciDevice("0000:03:00.0", "1002", "744c", "Navi 31 [Radeon RX 7900 XT]")
WITH_RADEON = replace(SID, gpus=(RADEON,), gfx={"0000:03:00.0": "gfx1100"})


def found(hardware: Hardware = SID, artifacts: tuple[Artifact, ...] = (), **settings: Any) -> Release | PaddockError:
    return releases(fleet_of(box={"source": SOURCE, **settings}), {"box": hardware}, {}, artifacts)["box"]


def release(hardware: Hardware = SID, artifacts: tuple[Artifact, ...] = (), **settings: Any) -> Release:
    one = found(hardware, artifacts, **settings)
    assert isinstance(one, Release), one
    return one


def refused(hardware: Hardware = SID, artifacts: tuple[Artifact, ...] = (), **settings: Any) -> str:
    one = found(hardware, artifacts, **settings)
    assert isinstance(one, PaddockError)
    return str(one)


def test_a_release_is_made_of_the_packages_that_it_uses_and_no_others() -> None:
    plain = release()
    assert plain.downloads == ("llama.cpp-tools=1:0.7.0+dfsg-2", "libllama0=1:0.7.0+dfsg-2", "libggml0=0.27.0-1")
    more = release(accelerator="vulkan", vulkan_device="any", programs=["llama-imatrix"])
    added = {"libggml0-backend-vulkan=0.27.0-1", "llama.cpp-tools-extra=1:0.7.0+dfsg-2"}
    assert set(more.downloads) == {*plain.downloads, *added}


def test_nothing_is_compiled_and_there_is_no_page() -> None:
    one = release()
    assert "chrpath" in one.packages and not {each for each in one.packages if "g++" in each or "cmake" in each}
    assert not one.ui and one.name.startswith("0.7.0-") and one.profile == "any x86-64, for the CPU"
    assert {"libgomp1", "libssl3t64"} <= set(one.runtime_packages)


def test_hosts_share_a_release_of_packages_whatever_their_processors() -> None:
    other = replace(SID, cpu_model="EPYC", cpu_flags=frozenset({"avx2", "avx512f"}), distribution="ubuntu 27.04")
    both = releases(fleet_of(one={"source": SOURCE}, two={"source": SOURCE}), {"one": SID, "two": other}, {})
    one, two = both["one"], both["two"]
    assert isinstance(one, Release) and isinstance(two, Release)
    assert one.fingerprint == two.fingerprint and two.builder == "one"
    assert release().fingerprint != release(accelerator="vulkan", vulkan_device="any").fingerprint


def test_another_revision_of_either_package_is_another_release() -> None:
    fingerprints = {release(source={**SOURCE, **other}).fingerprint for other in ({}, {"packages": "1:0.7.0+dfsg-3"}, {"ggml": "0.27.0-2"})}
    assert len(fingerprints) == 3


def test_packages_of_a_newer_distribution_are_refused_by_the_c_library_that_they_need() -> None:
    made = release()
    artifact = Artifact(
        made.name, made.version, made.fingerprint, made.key, made.profile, "x86_64", "debian forky", "2.43", (), "5eed" * 16, 1
    )
    assert release(artifacts=(artifact,)).made == "archived"
    words = refused(replace(SID, distribution="debian 13", libc="2.41"), (artifact,))
    assert f"{made.name} needs glibc 2.43, the host has 2.41" in words and "paddock artifacts import" in words


def test_a_host_that_makes_nothing_takes_what_was_imported() -> None:
    assert "nothing is to be compiled" in refused(builder=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": {"GGML_LTO": True}}, "nothing is compiled of packages: leave it out"),
        ({"jobs": 2}, "nothing is compiled of packages"),
        ({"builder": "forge"}, "nothing is compiled of packages"),
        ({"ui": True}, "the packages have no web page"),
        ({"accelerator": "cuda"}, "the distribution's packages have no CUDA"),
        ({"programs": ["llama-run"]}, "the packages have no llama-run: they have llama-batched-bench, "),
    ],
)
def test_what_packages_cannot_have_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LlamaCppSettings.model_validate({"source": SOURCE, **settings})
    LlamaCppSettings.model_validate({"source": SOURCE, "ui": False})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"packages": "1:0.7.0+dfsg-2"}, "packages needs ggml"),
        ({"ggml": "0.27.0-1"}, "ggml is the version that goes with packages"),
        ({"ggml": "0.27.0-1", "path": "../llama.cpp"}, "ggml is the version that goes with packages"),
        ({**SOURCE, "packages": "0.7.0+dfsg-2"}, "write the epoch too, as in 1:0.7.0"),
        ({**SOURCE, "packages": "1:0.4.1+dfsg-1"}, "llama.cpp 0.4.1 is too old"),
        ({**SOURCE, "packages": "1:0.7.0; reboot"}, "is not the whole version of a package"),
        ({**SOURCE, "ggml": "0.27"}, "is not the whole version of a package"),
        ({**SOURCE, "packages": "8941+dfsg-1"}, "is not the whole version of a package"),
        ({**SOURCE, "packages": "1:" + "9" * 5000 + ".0.0-1"}, "is not the whole version of a package"),
        ({**SOURCE, "sdist": "llama-cpp-python==0.3.36"}, "exactly one of .* this has sdist and packages"),
        ({**SOURCE, "sha256": "5eed" * 16}, "packages have no sha256"),
    ],
)
def test_a_source_of_packages_is_two_whole_versions(source: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Source.model_validate(source)


def test_hip_comes_with_packages_alone() -> None:
    with pytest.raises(ValidationError, match="hip comes with the distribution's packages"):
        LlamaCppSettings(accelerator="hip")
    with pytest.raises(ValidationError, match='"rocm" is not built from source'):
        LlamaCppSettings.model_validate({"accelerator": "rocm"})
    one = release(WITH_RADEON, accelerator="hip")
    assert one.devices == ("ROCm0",) and "libggml0-backend-hip=0.27.0-1" in one.downloads and "librocblas4" in one.runtime_packages


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        (SID, "hip needs an AMD card, and this host has none"),
        (replace(MACHINES["strix-halo"], libc="2.43"), "is gfx1151, and the package has code for gfx803, "),
        (replace(WITH_RADEON, gfx={}), "offers Navi 31 .* to nobody for computing"),
        (replace(WITH_RADEON, architecture="aarch64", gfx={}), "Debian has HIP for x86-64 only"),
    ],
)
def test_hip_is_refused_where_the_package_has_no_code_for_the_card(hardware: Hardware, words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        raise PaddockError(refused(hardware, accelerator="hip"))


GRAPHICS = PciDevice("0000:0b:00.0", "1002", "164e", "Raphael")


def test_of_two_kinds_of_amds_cards_hip_uses_those_that_it_has_code_for() -> None:
    """The graphics in a processor beside a card: they would be given layers of a model."""
    both = replace(WITH_RADEON, gpus=(GRAPHICS, RADEON), gfx={GRAPHICS.address: "gfx1036", RADEON.address: "gfx1100"})
    assert release(both, accelerator="hip").devices == ("ROCm0",)
    assert [each.address for each in installed(both, "hip", 0)] == [RADEON.address]
    assert devices(both, "hip") == ("/dev/kfd", f"/dev/dri/by-path/pci-{RADEON.address}-render")


def test_packages_come_from_the_host_that_can_have_them() -> None:
    """Debian 13 has none: the first of the hosts would wait for ever."""
    old, new = replace(SID, distribution="debian 13", libc="2.41"), SID
    both = releases(fleet_of(old={"source": SOURCE}, new={"source": SOURCE}), {"old": old, "new": new}, {})
    assert [each.builder for each in both.values() if isinstance(each, Release)] == ["new", "new"]


def test_cuda_cards_are_not_left_idle_in_silence() -> None:
    words = refused(MACHINES["h200-server"])
    assert "which the distribution's packages do not have" in words and "accelerator: vulkan" in words


# Unpacking, with real packages made here

needs_its_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("dpkg-deb", "chrpath", "cc"))), reason="dpkg-deb, chrpath and a C compiler are not here"
)
PROGRAM = "const char *said(void); int puts(const char *); int main(void) { return puts(said()) < 0; }"
LIBRARY = 'const char *said(void) { return "version: 0.7.0"; }'


def deb(at: Path, name: str, files: dict[str, Path]) -> None:
    root = at / f"{name}.root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: Nobody <nobody@home.example>\nDescription: toy\n"
    )
    for path, file in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, at / f"{name}_1_amd64.deb"], check=True, capture_output=True)
    shutil.rmtree(root)


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """Packages as Debian's: a program whose library lies below /usr/lib, where nothing is."""
    (tmp_path / "said.c").write_text(LIBRARY)
    (tmp_path / "main.c").write_text(PROGRAM)
    library, program = tmp_path / "libsaid.so.0", tmp_path / "llama-server"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libsaid.so.0", "-o", library, tmp_path / "said.c"], check=True)
    away = "-Wl,--enable-new-dtags,-rpath,/usr/lib/nowhere-linux-gnu/llama"
    subprocess.run(["cc", "-o", program, tmp_path / "main.c", library, away], check=True)
    at = tmp_path / "packages"
    at.mkdir()
    deb(at, "llama.cpp-tools", {"usr/bin/llama-server": program, "usr/share/man/man1/llama-server.1": tmp_path / "main.c"})
    deb(at, "libllama0", {"usr/lib/nowhere-linux-gnu/libsaid.so.0": library})
    return at


def unpack(release: Release, downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.CompletedProcess[str]:
    monkeypatch.setattr("roles.llama_cpp.recipe.packages", lambda release: str(downloaded))
    work = tmp_path / "work here"
    work.mkdir(exist_ok=True)
    text = script(release, work=str(work), packed=str(tmp_path / "release.tar.gz"), ccache=str(tmp_path / "ccache"))
    return subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True)


@needs_its_tools
def test_programs_find_their_libraries_beside_them(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(release(), targets=("llama-server",))
    done = unpack(one, downloaded, tmp_path, monkeypatch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is built: version: 0.7.0" in done.stdout
    with tarfile.open(tmp_path / "release.tar.gz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    whole = tmp_path / "unpacked" / one.name
    assert sorted(each.name for each in (whole / "bin").iterdir()) == ["PACKAGES", "libsaid.so.0", "llama-server"]
    assert subprocess.run([whole / "bin/llama-server"], capture_output=True, text=True).stdout == "version: 0.7.0\n"
    assert subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST"], cwd=whole).returncode == 0
    listed = [line.split()[1] for line in (whole / "bin/PACKAGES").read_text().splitlines()]
    assert listed == ["libllama0_1_amd64.deb", "llama.cpp-tools_1_amd64.deb"]


@needs_its_tools
def test_a_damaged_package_and_a_missing_program_make_no_release(downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = unpack(replace(release(), targets=("llama-server", "llama-bench")), downloaded, tmp_path, monkeypatch)
    assert lacks.returncode == 1 and "paddock: error: the packages have no llama-bench" in lacks.stdout
    package = downloaded / "libllama0_1_amd64.deb"
    package.write_bytes(package.read_bytes()[:300])
    damaged = unpack(replace(release(), targets=("llama-server",)), downloaded, tmp_path, monkeypatch)
    assert damaged.returncode == 1 and "libllama0_1_amd64.deb is no whole package" in damaged.stdout
    assert not (tmp_path / "release.tar.gz").exists()


def test_each_release_has_a_directory_of_its_own_for_its_packages() -> None:
    assert packages(release()).endswith(f"/packages/{release().fingerprint}")


def test_a_card_that_computes_by_hip_is_reached_by_two_nodes() -> None:
    from inventory.fleet import Fleet

    fleet = Fleet.model_validate(
        {
            "name": "home",
            "domain": "home.example",
            "models": {"chat": {"source": "tiny"}},
            "hosts": {
                "box": {
                    "name": "box",
                    "address": "192.0.2.10",
                    "roles": {
                        "llama_cpp": {"source": SOURCE, "accelerator": "hip"},
                        "models": {},
                        "llama_server": {"instances": {"one": {"model": "chat", "listen": "127.0.0.1:8081", "gpus": [0]}}},
                    },
                }
            },
        }
    )
    (server,) = fleet.servers("box")
    assert pin(server, WITH_RADEON, "hip").devices == ("/dev/kfd", "/dev/dri/by-path/pci-0000:03:00.0-render")
