"""The build script, run for real on a source tree of a few lines."""

import io
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from resources import Release
from roles.llama_cpp import recipe
from roles.llama_cpp.recipe import script, unit
from roles.llama_cpp.toolchain import DISK_MIB

needs_a_compiler = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "ninja", "c++", "strip"))), reason="cmake, ninja and a C++ compiler are not here"
)

CMAKE = """cmake_minimum_required(VERSION 3.14)
project(toy CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server server.cpp)
file(WRITE ${CMAKE_BINARY_DIR}/says.h "#define SAYS \\"${SAYS}\\"\\n")
include_directories(${CMAKE_BINARY_DIR})
"""
SERVER = "#include <cstdio>\n#include <says.h>\nint main() { std::puts(SAYS); return EXIT; }\n"


@pytest.fixture
def release(tmp_path: Path) -> Release:
    home = tmp_path / "llama cpp"  # a blank, for what is not quoted
    return Release(
        path=f"{home}/releases/1.0-0123456789ab",
        current=f"{home}/current",
        version="1.0",
        fingerprint="0123456789ab" + "0" * 52,
        source="sdist llama-cpp-python==1.0",
        options=(("CMAKE_BUILD_TYPE", "Release"), ("SAYS", "version; $1.0")),
        targets=("llama-server",),
        packages=(),
    )


def packed(place: Path) -> Path:
    return place / "built here" / "1.0-0123456789ab.tar.gz"


def run(
    release: Release, work: Path, server: str = SERVER.replace("EXIT", "0"), packed_in: Path | None = None
) -> subprocess.CompletedProcess[str]:
    work.mkdir(exist_ok=True)
    target = packed_in / f"{release.name}.tar.gz" if packed_in else packed(work.parent)
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(work / "source.tar.gz", "w:gz") as tar:
        for name, text in (("CMakeLists.txt", CMAKE), ("server.cpp", server)):
            member = tarfile.TarInfo(f"llama.cpp/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    text = script(release, work=str(work), packed=str(target), ccache=str(work.parent / "ccache"))
    return subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True)


@needs_a_compiler
def test_a_build_leaves_a_whole_release_packed_and_nothing_else(release: Release, tmp_path: Path) -> None:
    done = run(release, tmp_path / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    unpacked = tmp_path / "unpacked"
    with tarfile.open(packed(tmp_path)) as tar:
        assert {(member.uname, member.gname) for member in tar} == {("root", "root")}
        tar.extractall(unpacked, filter="data")
    whole = unpacked / release.name
    assert (whole / ".paddock-release").read_text() == release.fingerprint + "\n"
    assert subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST"], cwd=whole).returncode == 0
    assert subprocess.run([whole / "bin/llama-server"], capture_output=True, text=True).stdout == "version; $1.0\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["built here", "ccache", "unpacked", "work"]
    assert list((tmp_path / "work").iterdir()) == []
    assert list(packed(tmp_path).parent.iterdir()) == [packed(tmp_path)]


@needs_a_compiler
def test_what_does_not_compile_leaves_nothing_packed(release: Release, tmp_path: Path) -> None:
    failed = run(release, tmp_path / "work", server="wrong thing;")
    assert failed.returncode != 0
    assert "error: " in failed.stdout
    assert list(packed(tmp_path).parent.iterdir()) == []


@needs_a_compiler
def test_a_server_that_does_not_run_where_it_was_built_is_no_release(release: Release, tmp_path: Path) -> None:
    failed = run(release, tmp_path / "work", server=SERVER.replace("EXIT", "132"))
    assert "paddock: error: the llama-server that was built does not run here" in failed.stdout
    assert not packed(tmp_path).exists()


@needs_a_compiler
def test_a_server_that_hangs_at_its_start_is_no_release(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "VERSION_S", 1)
    failed = run(release, tmp_path / "work", server="int main() { for (;;) {} }")
    assert "does not run here: it does not end within 1 s" in failed.stdout
    assert not packed(tmp_path).exists()


@needs_a_compiler
def test_what_is_packed_already_is_not_built_again(release: Release, tmp_path: Path) -> None:
    run(release, tmp_path / "work")
    again = run(release, tmp_path / "work", server="wrong thing;")
    assert again.returncode == 0 and "is built already" in again.stdout
    assert list((tmp_path / "work").iterdir()) == []


@needs_a_compiler
def test_what_is_packed_among_what_it_is_built_from_is_all_that_stays(release: Release, tmp_path: Path) -> None:
    """As it is on a host: the account that builds can write nowhere else."""
    work = tmp_path / "work"
    for _ in range(2):
        done = run(release, work, packed_in=work)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [each.name for each in work.iterdir()] == [f"{release.name}.tar.gz"]


@needs_a_compiler
def test_what_a_killed_build_left_is_no_obstacle(release: Release, tmp_path: Path) -> None:
    for left in ("build/CMakeCache.txt", f"{release.name}/bin/llama-server"):
        (tmp_path / "work" / left).parent.mkdir(parents=True)
        (tmp_path / "work" / left).write_text("half")
    packed(tmp_path).parent.mkdir()
    packed(tmp_path).with_suffix(".gz.part").write_text("half")
    assert run(release, tmp_path / "work").returncode == 0
    assert list(packed(tmp_path).parent.iterdir()) == [packed(tmp_path)]


def test_a_disk_without_room_is_said_before_anything_is_unpacked(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISK_MIB, "cpu", 10**9)
    failed = run(release, tmp_path / "work")
    assert failed.returncode == 1
    assert "needs 1000000000 MiB" in failed.stdout and "MiB are free" in failed.stdout
    assert not (tmp_path / "work" / "source").exists()


def test_a_unit_is_named_after_its_fingerprint(release: Release) -> None:
    assert unit(release) == "paddock-build-0123456789ab.service"


def test_the_inventorys_jobs_go_before_what_the_host_could_carry(release: Release, tmp_path: Path) -> None:
    assert "--parallel 3 " in script(replace(release, jobs=3), work="/w")
