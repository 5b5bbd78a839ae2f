"""The release that each host is to serve, when it is another one, and who builds it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Artifact, Knowledge
from resources import Package, Release, User
from roles.llama_cpp.plan import plan
from roles.llama_cpp.releases import releases
from roles.llama_cpp.settings import LlamaCppSettings
from roles.source import PINNED

HERE = Hardware(
    "x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=3839, distribution="debian 13", libc="2.41", disk_free_mib=50000
)
OLDER = replace(HERE, distribution="debian 12", libc="2.36")
TREE = {"source": {"path": "../llama.cpp"}}


def fleet_of(**hosts: dict[str, Any]) -> Fleet:
    """Hosts by name, each with its settings of llama_cpp."""
    entries = {
        name: {"name": name, "address": f"192.0.2.{at}", "roles": {"llama_cpp": settings}}
        for at, (name, settings) in enumerate(hosts.items(), 10)
    }
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": entries})


def release(settings: dict[str, Any] | None = None, hardware: Hardware = HERE, sources: dict[str, str] | None = None) -> Release:
    found = releases(fleet_of(pea=settings or {}), {"pea": hardware}, sources or {})["pea"]
    assert isinstance(found, Release), found
    return found


def all_of(hardware: dict[str, Hardware], artifacts: tuple[Artifact, ...] = (), **hosts: dict[str, Any]) -> dict[str, Release]:
    found = releases(fleet_of(**hosts), hardware, {}, artifacts)
    return {name: each for name, each in found.items() if isinstance(each, Release)}


def packages_of(host: str, hardware: dict[str, Hardware], **hosts: dict[str, Any]) -> set[str]:
    fleet = fleet_of(**hosts)
    settings = fleet.role(host, "llama_cpp", LlamaCppSettings)
    assert settings
    knowledge = Knowledge(hardware=hardware, releases=releases(fleet, hardware, {}))
    return {each.name for each in plan(fleet.hosts[host], settings, fleet, knowledge) if isinstance(each, Package)}


def artifact_of(found: Release, libc: str = "2.36", fingerprint: str = "") -> Artifact:
    fingerprint = fingerprint or found.fingerprint
    name = f"{found.version}-{fingerprint[:12]}"
    return Artifact(name, found.version, fingerprint, found.key, found.profile, "x86_64", "debian 12", libc, (), "5eed" * 16, 1)


def test_a_release_lies_under_its_version_and_the_start_of_its_fingerprint() -> None:
    found = release()
    assert found.path == f"/opt/paddock/llama.cpp/releases/0.3.36-{found.fingerprint[:12]}"
    assert found.source == f"sdist llama-cpp-python==0.3.36 {PINNED['llama-cpp-python==0.3.36']}"


@pytest.mark.parametrize(
    ("settings", "hardware"),
    [
        ({"source": {"sdist": "llama-cpp-python==0.3.35", "sha256": "aa" * 32}}, HERE),
        ({"source": {"sdist": "llama-cpp-python==0.3.36", "sha256": "aa" * 32}}, HERE),
        ({"options": {"GGML_LTO": True}}, HERE),
        ({}, OLDER),
        ({}, replace(HERE, cpu_flags=frozenset({"sse4_2", "avx"}))),
    ],
)
def test_another_source_option_distribution_or_processor_is_another_release(settings: dict[str, Any], hardware: Hardware) -> None:
    assert release(settings, hardware).fingerprint != release().fingerprint


@pytest.mark.parametrize(
    ("settings", "hardware"),
    [
        ({"jobs": 1}, HERE),
        ({}, replace(HERE, memory_mib=8192, cores=4, cpu_model="another")),
        ({}, replace(HERE, cpu_flags=frozenset({"sse4_2", "spec_ctrl"}))),
    ],
)
def test_what_changes_nothing_in_the_result_keeps_the_release(settings: dict[str, Any], hardware: Hardware) -> None:
    assert release(settings, hardware).fingerprint == release().fingerprint


def test_a_source_of_no_known_digest_makes_no_release() -> None:
    found = releases(fleet_of(pea={"source": {"sdist": "llama-cpp-python==0.3.35"}}), {"pea": HERE}, {})["pea"]
    assert isinstance(found, PaddockError)
    assert re.match(r"roles\.llama_cpp\.source: nothing says which file llama-cpp-python==0\.3\.35 is, .*pull --lock`$", str(found))


def test_a_local_tree_is_known_by_its_content() -> None:
    before, after = (release(TREE, sources={"../llama.cpp": digest}) for digest in ("aa", "bb"))
    assert before.fingerprint != after.fingerprint
    assert before.version == after.version == "llama.cpp"


@pytest.mark.parametrize(("settings", "hardware"), [({}, {}), (TREE, {"pea": HERE}), ({"builder": "forge"}, {"pea": HERE})])
def test_what_is_not_known_yet_is_said_to_be_so(settings: dict[str, Any], hardware: dict[str, Hardware]) -> None:
    fleet = fleet_of(pea=settings, forge={"serve": False})
    known = fleet.role("pea", "llama_cpp", LlamaCppSettings)
    assert known
    knowledge = Knowledge(hardware=hardware, releases=releases(fleet, hardware, {}))
    (found,) = (each for each in plan(fleet.hosts["pea"], known, fleet, knowledge) if isinstance(each, Release))
    assert found.fingerprint == "to-be-detected"
    assert found.path.endswith("-to-be-detected")


def test_of_hosts_that_need_the_same_release_the_first_builds_it() -> None:
    found = all_of(dict.fromkeys(("pea", "bean", "leek"), HERE) | {"leek": OLDER}, pea={}, bean={}, leek={})
    assert {name: each.builder for name, each in found.items()} == {"pea": "pea", "bean": "pea", "leek": "leek"}
    assert found["pea"].fingerprint == found["bean"].fingerprint != found["leek"].fingerprint


def test_only_who_builds_has_the_compilers() -> None:
    hardware = dict.fromkeys(("pea", "bean"), HERE)
    assert packages_of("pea", hardware, pea={}, bean={}) == {"ccache", "cmake", "g++", "ninja-build", "curl", "libgomp1", "libstdc++6"}
    assert packages_of("bean", hardware, pea={}, bean={}) == {"curl", "libgomp1", "libstdc++6"}


def test_only_who_builds_has_the_account_that_does() -> None:
    fleet, hardware = fleet_of(pea={}, bean={}), dict.fromkeys(("pea", "bean"), HERE)
    knowledge = Knowledge(hardware=hardware, releases=releases(fleet, hardware, {}))
    for name, accounts in (("pea", [("paddock-build", False)]), ("bean", [])):
        settings = fleet.role(name, "llama_cpp", LlamaCppSettings)
        assert settings
        planned = plan(fleet.hosts[name], settings, fleet, knowledge)
        assert [(each.name, each.needed) for each in planned if isinstance(each, User)] == accounts


def test_a_host_that_only_compiles_for_others_serves_nothing() -> None:
    hardware = dict.fromkeys(("forge", "pea"), HERE)
    hosts: dict[str, dict[str, Any]] = {"forge": {"serve": False}, "pea": {"builder": "forge"}}
    assert packages_of("forge", hardware, **hosts) == {"ccache", "cmake", "g++", "ninja-build"}
    assert packages_of("pea", hardware, **hosts) == {"curl", "libgomp1", "libstdc++6"}
    found = all_of(hardware, (), **hosts)
    assert list(found) == ["pea"] and found["pea"].builder == "forge"


def test_what_was_built_elsewhere_is_taken_where_it_fits() -> None:
    built = all_of({"leek": OLDER}, leek={})["leek"]
    taken = all_of({"pea": HERE}, (artifact_of(built),), pea={})["pea"]
    assert (taken.fingerprint, taken.builder, taken.key) == (built.fingerprint, "", built.key)


def test_the_very_release_goes_before_one_that_was_built_elsewhere() -> None:
    own, other = release(), release(hardware=OLDER)
    found = all_of({"pea": HERE}, (artifact_of(other), artifact_of(own, "2.38")), pea={})["pea"]
    assert (found.fingerprint, found.builder) == (own.fingerprint, "pea")


@pytest.mark.parametrize("settings", [{"builder": False}, {}])
def test_a_host_keeps_what_is_only_recorded(settings: dict[str, Any]) -> None:
    recorded = replace(artifact_of(release(hardware=OLDER)), archived=False)
    found = all_of({"pea": HERE}, (recorded,), pea=settings)["pea"]
    assert (found.fingerprint, found.made) == (recorded.fingerprint, "recorded")


def test_what_is_here_goes_before_what_is_only_recorded() -> None:
    here = artifact_of(release(hardware=OLDER), "2.31", "aa" * 32)
    recorded = replace(artifact_of(release(hardware=OLDER), "2.36", "bb" * 32), archived=False)
    found = all_of({"pea": HERE}, (here, recorded), pea={"builder": False})["pea"]
    assert (found.fingerprint, found.made) == (here.fingerprint, "archived")


def test_what_needs_a_newer_c_library_is_not_taken() -> None:
    newer = release()
    found = all_of({"leek": OLDER}, (artifact_of(newer, "2.38"),), leek={})["leek"]
    assert found.builder == "leek" and found.fingerprint != newer.fingerprint


@pytest.mark.parametrize("artifacts", [(), (artifact_of(release(), "2.38"),), (replace(artifact_of(release()), key="00" * 32),)])
def test_a_host_that_nothing_may_be_compiled_for_needs_an_artifact_that_fits(artifacts: tuple[Artifact, ...]) -> None:
    found = releases(fleet_of(pea={"builder": False}), {"pea": OLDER}, {}, artifacts)["pea"]
    assert isinstance(found, PaddockError)
    assert re.fullmatch(
        r"roles\.llama_cpp\.builder: nothing is to be compiled for this host, and no artifact fits it( \(\S+ needs glibc 2\.38, "
        r"the host has 2\.36\))?:"
        r" `paddock artifacts import` one of 0\.3\.36 with the key \w{12}",
        str(found),
    )


def test_a_host_that_nothing_may_be_compiled_for_takes_one_that_fits() -> None:
    found = all_of({"pea": OLDER}, (artifact_of(release()),), pea={"builder": False})["pea"]
    assert (found.fingerprint, found.builder, found.packages) == (release().fingerprint, "", ())
