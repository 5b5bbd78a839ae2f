"""What a build's unit and journal say, and which of it a person is told."""

import pytest

from facts.build import Build, BuildStatus

RUNNING = """ActiveState=active
SubState=running
Result=success
|paddock: compiling
|[56/210] Building CXX object src/CMakeFiles/llama.dir/llama-graph.cpp.o
|[57/210] Building CXX object src/CMakeFiles/llama.dir/llama-kv-cache.cpp.o
|In file included from /var/lib/paddock/build/3f/source/src/llama-kv-cache.cpp:1:""".splitlines()

COMPILER = """ActiveState=failed
SubState=failed
Result=exit-code
|[60/210] Building CXX object common/CMakeFiles/common.dir/arg.cpp.o
|[61/210] Building CXX object src/CMakeFiles/llama.dir/llama.cpp.o
|FAILED: src/CMakeFiles/llama.dir/llama.cpp.o
|/usr/bin/c++ -O3 -o src/CMakeFiles/llama.dir/llama.cpp.o -c ../source/src/llama.cpp
|../source/src/llama.cpp:10:3: error: ‘wrong’ does not name a type
|   10 |   wrong thing;
|      |   ^~~~~
|ninja: build stopped: subcommand failed.""".splitlines()

CMAKE = """ActiveState=failed
SubState=failed
Result=exit-code
|paddock: configuring
|CMake Error at CMakeLists.txt:7 (message):
|  GGML_CUDA needs nvcc
|
|
|-- Configuring incomplete, errors occurred!""".splitlines()

BROKEN_COMPILER = """ActiveState=failed
SubState=failed
Result=exit-code
|CMake Error at /usr/share/cmake-3.31/Modules/CMakeTestCXXCompiler.cmake:73 (message):
|  The C++ compiler
|    <command-line>: error: ‘wrong’ does not name a type""".splitlines()

FULL = """ActiveState=failed
SubState=failed
Result=exit-code
|paddock: error: /var/lib/paddock/build/3f needs 700 MiB to build in, and 120 MiB are free: make room there""".splitlines()

MEMORY = """ActiveState=failed
SubState=failed
Result=exit-code
|FAILED: src/CMakeFiles/llama.dir/llama.cpp.o
|c++: fatal error: Killed signal terminated program cc1plus
|compilation terminated.""".splitlines()

KILLED = """ActiveState=failed
SubState=failed
Result=signal
|[61/210] Building CXX object src/CMakeFiles/llama.dir/llama.cpp.o""".splitlines()


def status(lines: list[str]) -> Build:
    return BuildStatus().process(lines)


def test_a_running_build_says_how_far_it_is() -> None:
    assert status(RUNNING).state == "running"
    assert status(RUNNING).progress == "compiling, 57 of 210"


def test_a_build_that_has_not_begun_to_compile_names_its_step() -> None:
    assert Build("running", lines=("paddock: unpacking",)).progress == "unpacking"


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (COMPILER, "../source/src/llama.cpp:10:3: error: ‘wrong’ does not name a type"),
        (CMAKE, "CMake Error at CMakeLists.txt:7 (message): GGML_CUDA needs nvcc"),
        (BROKEN_COMPILER, "<command-line>: error: ‘wrong’ does not name a type"),
        (FULL, "/var/lib/paddock/build/3f needs 700 MiB to build in, and 120 MiB are free: make room there"),
        (MEMORY, "the compiler was killed, as it is where memory runs out: set roles.llama_cpp.jobs to 1, or free memory on the host"),
    ],
)
def test_a_failed_build_says_why_in_its_first_line(lines: list[str], first: str) -> None:
    assert status(lines).state == "failed"
    assert status(lines).why[0] == first


def test_the_lines_around_a_compilers_error_are_kept() -> None:
    assert "   10 |   wrong thing;" in status(COMPILER).why


def test_a_build_that_was_killed_is_not_blamed_on_the_compiler() -> None:
    assert status(KILLED).why[0].startswith("the build was ended from outside (signal)")


def test_a_finished_build_is_done_and_one_that_never_was_is_absent() -> None:
    assert status(["ActiveState=active", "SubState=exited", "Result=success"]).state == "done"
    assert status(["ActiveState=inactive", "SubState=dead", "Result=success"]).state == "absent"


def test_a_full_disk_is_told_whatever_else_failed_because_of_it() -> None:
    lines = ["|c++: error: something", "|ar: build/libllama.a: No space left on device", "|ninja: build stopped: subcommand failed."]
    assert status([*KILLED[:2], "Result=exit-code", *lines]).why[0] == "ar: build/libllama.a: No space left on device"
