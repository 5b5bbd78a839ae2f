"""Where a release comes from that is not among the artifacts, and who has a compiler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.views.changes import reasons
from control.deployment.builds import assigned, compiling, kept, with_compilers
from control.deployment.work import Work
from control.llama_cpp.artifacts import Artifacts
from control.state.fleet import FleetState
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Artifact, Knowledge
from resources import Package, Release, Service, User
from resources.codec import read, written
from resources.drift import drift
from resources.probe import Actual

FINGERPRINT = "1f0c8a2b3c4d" + "0" * 52
NAME = f"0.3.36-{FINGERPRINT[:12]}"
RELEASE = Release(
    path=f"/opt/paddock/llama.cpp/releases/{NAME}",
    current="/opt/paddock/llama.cpp/current",
    version="0.3.36",
    fingerprint=FINGERPRINT,
    key="ab" * 32,
    profile="x86-64, for the CPU",
    source="sdist llama-cpp-python==0.3.36",
    options=(("GGML_AVX", "ON"),),
    targets=("llama-server",),
    packages=("cmake",),
    builder="pea",
    made="recorded",
)
COMPILER = Package("cmake", needed=False)
ACCOUNT = User("paddock-build", "/var/lib/paddock/build", needed=False)
THERE, LACKING = {RELEASE.id: dict(RELEASE.desired)}, dict[str, dict[str, str]]()
HARDWARE = Hardware("x86_64", "Celeron", frozenset(), cores=2, memory_mib=3839, distribution="debian 13")


def work(found: dict[str, dict[str, str]], release: Release = RELEASE, **known: Any) -> Work:
    plan = {"llama_cpp": (COMPILER, ACCOUNT, release)}
    actual = Actual(found, **known)
    return Work(plan, actual, drift(plan, actual))


@pytest.fixture
def artifacts(state: FleetState) -> Artifacts:
    """Their archives are gone."""
    recorded = Artifact(NAME, "0.3.36", FINGERPRINT, RELEASE.key, "", "x86_64", "debian 13", "2.36", (), "5eed" * 16, 1, manifest="aa" * 32)
    artifacts = Artifacts(state)
    record(artifacts, recorded)
    return artifacts


def record(artifacts: Artifacts, artifact: Artifact) -> None:
    archive = artifacts.state.directory("artifacts") / "archive"
    archive.touch()
    artifacts.keep(archive, artifact)
    artifacts.archive(artifact.name).unlink()


def given(state: FleetState, works: dict[str, Work]) -> Any:
    fleet = Fleet.model_validate(
        {"name": "home", "domain": "home.example", "hosts": {name: {"name": name, "address": "192.0.2.7"} for name in works}}
    )
    knowledge = Knowledge(hardware=dict.fromkeys(works, HARDWARE))
    return assigned({name: each.missing for name, each in works.items()}, fleet, state, knowledge, works, kept(works, Artifacts(state)))


def test_what_a_host_has_is_fetched_from_there_and_compiled_nowhere(artifacts: Artifacts, state: FleetState) -> None:
    works = {"pea": work(LACKING), "bean": work(THERE)}
    found = given(state, works)
    assert (found.waits, found.failures) == ({"pea": "bean"}, {})
    assert [(name, each.source) for name, builds in found.builds.items() for each in builds] == [("bean", None)]
    assert compiling(works, artifacts) == set()


def test_what_no_host_has_whole_is_compiled_by_its_builder(artifacts: Artifacts) -> None:
    rotten = {RELEASE.id: {**RELEASE.desired, "fingerprint": "bin/llama-server was changed"}}
    assert compiling({"pea": work(rotten), "bean": work(LACKING)}, artifacts) == {"pea"}


def test_what_nothing_was_recorded_of_is_compiled_although_a_host_has_it(artifacts: Artifacts) -> None:
    description = artifacts.directory / f"{NAME}.json"
    record(artifacts, replace(artifacts.named(NAME), manifest=""))
    assert compiling({"pea": work(LACKING), "bean": work(THERE)}, artifacts) == {"pea"}, "an earlier version wrote no list of files down"
    description.unlink()
    assert compiling({"pea": work(LACKING), "bean": work(THERE)}, artifacts) == {"pea"}


def test_what_has_another_list_of_files_than_was_recorded_is_compiled_anew(artifacts: Artifacts) -> None:
    """A program was exchanged there, and its list of files made anew."""
    release = replace(RELEASE, manifest="aa" * 32)
    exchanged = {RELEASE.id: {**release.desired, "manifest": "bb" * 32}}
    assert compiling({"pea": work(exchanged, release)}, artifacts) == {"pea"}
    assert compiling({"pea": work({RELEASE.id: dict(release.desired)}, release)}, artifacts) == set()


def test_no_service_is_restarted_since_the_list_of_files_became_known() -> None:
    service = Service("x.service", restarts=(RELEASE,))
    assert service.started == replace(service, restarts=(replace(RELEASE, manifest="aa" * 32),)).started


def test_what_nobody_has_and_nobody_may_compile_says_what_to_do(artifacts: Artifacts, state: FleetState) -> None:
    (words,) = given(state, {"bean": work(LACKING, replace(RELEASE, builder=""))}).failures.values()
    assert "no host of this run has the release: name one that has it in `--limit` too, `paddock artifacts import` it again" in words


def test_a_host_that_has_its_release_is_as_declared_without_a_compiler() -> None:
    found = work(THERE, manifest={RELEASE.id: "put"})
    assert not found.drift and "package:cmake" not in found.drift.manifest


def test_a_compiler_that_was_installed_stays_while_its_host_may_compile_again() -> None:
    manifest = {"package:cmake": "put", RELEASE.id: "put"}
    assert not work({**THERE, "package:cmake": {"state": "installed", "version": "3"}}, manifest=manifest).drift


def test_who_has_something_to_compile_is_given_the_compiler() -> None:
    plan = with_compilers(work(LACKING).plan)
    found = drift(plan, Actual())
    assert [change.id for change in found.changes] == ["package:cmake", ACCOUNT.id, RELEASE.id]
    assert found.claims["package:cmake"] == "put"


def test_the_account_that_builds_is_paddocks_own_also_where_no_manifest_has_it() -> None:
    """`artifacts build` makes it on a builder, and notes nothing there."""
    there = {**THERE, ACCOUNT.id: {"home": ACCOUNT.home}}
    assert work(there).drift.manifest[ACCOUNT.id] == "put"


def test_a_plan_that_was_written_down_asks_for_no_compiler_either() -> None:
    plan = work(THERE).plan
    (package, account, _) = read(written(plan), lambda name: "")["llama_cpp"]
    assert isinstance(package, Package) and not package.needed
    assert isinstance(account, User) and not account.needed


@pytest.mark.parametrize(
    ("made", "builder", "lies", "words"),
    [
        ("", "pea", True, "already there"),
        ("", "pea", False, "built by pea"),
        ("archived", "pea", False, "from the fleet's artifacts"),
        ("archived", "", False, "from the fleet's artifacts"),
        ("recorded", "pea", False, "from a host that has it, else built by pea"),
        ("recorded", "", False, "from a host that has it"),
    ],
)
def test_a_plan_says_where_a_release_comes_from(made: Any, builder: str, lies: bool, words: str) -> None:
    first = next(iter(reasons(replace(RELEASE, made=made, builder=builder), set(), lies=lies)))
    assert first == f"{NAME}: x86-64, for the CPU, {words}"
