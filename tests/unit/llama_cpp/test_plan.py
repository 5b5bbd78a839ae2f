"""The release that a plan asks for, and when it is another one."""

from dataclasses import replace

import pytest

from inventory.context import Context
from inventory.hardware import Hardware
from inventory.schema import Fleet, Host
from roles.llama_cpp.plan import plan
from roles.llama_cpp.settings import LlamaCppSettings, Source
from roles.resources import Package, Release

HERE = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=3839, distribution="debian 13")
HOST = Host(name="pea", address="192.0.2.7")
FLEET = Fleet(name="home", domain="home.example", hosts={"pea": HOST})
TREE = LlamaCppSettings(source=Source(path="../llama.cpp"))


def release(settings: LlamaCppSettings | None = None, hardware: Hardware | None = HERE, sources: dict[str, str] | None = None) -> Release:
    context = Context(hardware={"pea": hardware} if hardware else {}, sources=sources or {})
    (found,) = (each for each in plan(HOST, settings or LlamaCppSettings(), FLEET, context) if isinstance(each, Release))
    return found


def test_a_release_lies_under_its_version_and_the_start_of_its_fingerprint() -> None:
    found = release()
    assert found.path == f"/opt/paddock/llama.cpp/releases/0.3.36-{found.fingerprint[:12]}"
    assert found.source == "sdist llama-cpp-python==0.3.36"


@pytest.mark.parametrize(
    "other",
    [
        release(LlamaCppSettings(source=Source(sdist="llama-cpp-python==0.3.35"))),
        release(LlamaCppSettings(options={"GGML_LTO": True})),
        release(hardware=replace(HERE, distribution="debian 12")),
        release(hardware=replace(HERE, cpu_flags=frozenset({"sse4_2", "avx"}))),
    ],
)
def test_another_source_option_distribution_or_processor_is_another_release(other: Release) -> None:
    assert other.fingerprint != release().fingerprint


@pytest.mark.parametrize(
    "same",
    [
        release(LlamaCppSettings(jobs=1)),
        release(hardware=replace(HERE, memory_mib=8192, cores=4, cpu_model="another")),
        release(hardware=replace(HERE, cpu_flags=frozenset({"sse4_2", "spec_ctrl"}))),
    ],
)
def test_what_changes_nothing_in_the_result_keeps_the_release(same: Release) -> None:
    assert same.fingerprint == release().fingerprint


def test_a_local_tree_is_known_by_its_content() -> None:
    before, after = (release(TREE, sources={"../llama.cpp": digest}) for digest in ("aa", "bb"))
    assert before.fingerprint != after.fingerprint
    assert before.version == after.version == "llama.cpp"


@pytest.mark.parametrize("unknown", [release(hardware=None), release(TREE)])
def test_what_is_not_known_yet_is_said_to_be_so(unknown: Release) -> None:
    assert unknown.fingerprint == "to-be-detected"
    assert unknown.path.endswith("-to-be-detected")


def test_the_packages_that_the_build_and_the_programs_need_are_declared() -> None:
    found = {each.name for each in plan(HOST, LlamaCppSettings(), FLEET, Context(hardware={"pea": HERE})) if isinstance(each, Package)}
    assert found == {"ccache", "cmake", "g++", "ninja-build", "libgomp1", "libstdc++6"}
