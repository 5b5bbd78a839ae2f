"""The Dockerfile of a host's profile, built for real by the lab's engine, on lab images in place of a registry's.

What is compiled is a tree of a few lines, which says what it was told: how llama.cpp itself takes these options, the builds on hosts show.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.engine import Engine, engine
from lab.image import with_packages
from roles.llama_cpp.dockerfile import context
from tests.lab_fleet import COMPILES_WITH
from tests.unit.llama_cpp.test_dockerfile import PASCAL, release

TAG = "paddock-test-dockerfile:1"

CMAKE = """cmake_minimum_required(VERSION 3.14)
project(toy CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name llama-server llama-bench)
  add_executable(${name} server.cpp)
endforeach()
if(GGML_AVX)
  add_compile_options(-mavx)
endif()
file(WRITE ${CMAKE_BINARY_DIR}/says.h "#define SAYS \\"native ${GGML_NATIVE}, AVX ${GGML_AVX}\\"\\n")
include_directories(${CMAKE_BINARY_DIR})
"""
SERVER = """#include <cstdio>
#include <cstdlib>
#include <says.h>
int main() {
  const char * key = std::getenv("LLAMA_API_KEY");
  std::printf("%s, key %s\\n", SAYS, key ? key : "none");
}
"""


@dataclass
class Built:
    engine: Engine
    path: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    place, docker = tmp_path_factory.mktemp("build"), engine()
    lab = with_packages(docker, COMPILES_WITH)
    one = release(PASCAL, accelerator="cpu")
    made = context(one, lab, lab)
    (place / "Dockerfile").write_text(made.dockerfile)
    (place / "build.sh").write_text(made.script)
    with tarfile.open(place / "source.tar.gz", "w:gz") as tar:
        for name, text in (("CMakeLists.txt", CMAKE), ("server.cpp", SERVER)):
            member = tarfile.TarInfo(f"llama.cpp/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    docker.run("build", "--force-rm", "--tag", TAG, str(place))
    try:
        yield Built(docker, f"/opt/paddock/llama.cpp/releases/{made.image.rpartition(':')[2]}")
    finally:
        docker.run("image", "rm", "--force", TAG)


def test_the_image_runs_what_was_compiled_with_the_profiles_options(built: Built) -> None:
    assert built.engine.run("run", "--rm", "--network", "none", TAG, "llama-server") == "native OFF, AVX OFF, key none"


def test_it_holds_a_whole_release_as_a_host_has_it(built: Built) -> None:
    check = f"cd {built.path} && sha256sum --check --quiet MANIFEST && cat .paddock-release && readlink /opt/paddock/llama.cpp/current"
    noted, current = built.engine.run("run", "--rm", "--network", "none", TAG, "sh", "-c", check).split()
    assert current == built.path and built.path.endswith(f"-{noted[:12]}")


def test_a_secret_comes_in_a_file_and_not_in_the_containers_environment(built: Built, tmp_path: Path) -> None:
    (tmp_path / "api-key.env").write_text("LLAMA_API_KEY=sk-of-a-file\n")
    mount = f"type=bind,source={tmp_path}/api-key.env,target=/run/secrets/api-key.env,readonly"
    assert built.engine.run("run", "--rm", "--network", "none", "--mount", mount, TAG, "llama-server").endswith("key sk-of-a-file")
