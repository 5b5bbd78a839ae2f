"""Artifacts: taken in from a builder, carried from one fleet to another, and refused where they are not what they say."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from control.llama_cpp.artifacts import Artifacts, needs_of
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from resources import Release

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
    options=(),
    targets=("llama-server",),
    packages=(),
)
PROGRAM = Path(shutil.which("tar") or "").read_bytes()
"""Any program of this machine, in place of a llama-server."""


def packed(path: Path, changed: Callable[[dict[str, bytes]], object] = lambda files: None) -> Path:
    """What a builder leaves: the archive of the release."""
    files = {"bin/llama-server": PROGRAM, ".paddock-release": f"{FINGERPRINT}\n".encode()}
    files["MANIFEST"] = f"{hashlib.sha256(PROGRAM).hexdigest()}  bin/llama-server\n".encode()
    changed(files)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(FleetState(tmp_path / "home.yml", "home", tmp_path / ".paddock" / "home"))


@pytest.fixture
def others(tmp_path: Path) -> Artifacts:
    return Artifacts(FleetState(tmp_path / "island.yml", "island", tmp_path / ".paddock" / "island"))


def test_what_a_program_needs_is_read_from_the_program() -> None:
    needs = needs_of({"bin/llama-server": PROGRAM})
    assert needs.architecture in ("x86_64", "aarch64")
    assert "libc.so.6" in needs.libraries
    assert needs.libc.startswith("2.")


def test_a_library_that_comes_along_is_not_needed_of_the_host() -> None:
    assert "libc.so.6" not in needs_of({"bin/llama-server": PROGRAM, "bin/libc.so.6": PROGRAM}).libraries


def test_what_was_taken_in_is_known_and_the_file_has_moved(artifacts: Artifacts, tmp_path: Path) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    assert artifacts.all() == (added,)
    assert artifacts.has(RELEASE)
    assert not (tmp_path / "built.tar.gz").exists()
    assert artifacts.named("1f0c") == artifacts.named(NAME) == added
    assert oct(artifacts.archive(NAME).stat().st_mode)[-3:] == "600"


def test_an_exported_artifact_is_the_same_in_another_fleet(artifacts: Artifacts, others: Artifacts, tmp_path: Path) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.export(added, tmp_path / "carried")
    assert others.take_in(tmp_path / "carried") == added
    assert others.archive(NAME).read_bytes() == artifacts.archive(NAME).read_bytes()
    assert [path.name for path in sorted(others.directory.iterdir())] == [f"{NAME}.json", f"{NAME}.tar.gz"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda files: files.pop("MANIFEST"), "its archive lacks files that its manifest names"),
        (lambda files: files.update({"bin/extra": b""}), "its archive lacks files that its manifest names"),
        (lambda files: files.update({"bin/llama-server": PROGRAM[:-1]}), "bin/llama-server differs from its manifest: it was damaged"),
        (lambda files: files.update({".paddock-release": b"ff\n"}), "its archive holds another release"),
        (lambda files: files.update({"../../etc/passwd": b""}), "its archive holds 0.3.36-1f0c8a2b3c4d/../../etc/passwd"),
    ],
)
def test_an_archive_that_is_not_that_release_whole_is_refused(
    artifacts: Artifacts, tmp_path: Path, changed: Callable[[dict[str, bytes]], object], words: str
) -> None:
    with pytest.raises(PaddockError, match=words.replace("+", r"\+")):
        artifacts.add(packed(tmp_path / "built.tar.gz", changed), RELEASE, "debian 13")
    assert artifacts.all() == ()


def test_a_carried_file_that_is_damaged_or_lies_is_refused(artifacts: Artifacts, others: Artifacts, tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.export(added, carried)
    whole = carried.read_bytes()

    def refused(content: bytes, words: str) -> None:
        carried.write_bytes(content)
        with pytest.raises(PaddockError, match=words):
            others.take_in(carried)
        assert others.all() == ()

    at = whole.index(b"\x1f\x8b") + 2000
    refused(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "was damaged in transit")
    refused(whole[: len(whole) // 2], "was not written by|was damaged")
    refused(b"hello", "was not written by `paddock artifacts export`")
    refused(b"", "was not written by `paddock artifacts export`")
    refused(_saying(added.libc, "1.0", whole), "its description does not match its programs")
    refused(_saying(NAME, "../../../x-" + FINGERPRINT[:12], whole), "is not the name of a release")


def _saying(before: str, after: str, whole: bytes) -> bytes:
    """The exported file with something else in its description."""
    result = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=result, mode="w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file
            content = file.read()
            if member.name == "artifact.json":
                content = json.dumps({key: after if value == before else value for key, value in json.loads(content).items()}).encode()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return result.getvalue()


def test_one_that_nobody_knows_is_told_with_those_that_there_are(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(PaddockError, match=r"0.3.35: is not an artifact of fleet home \(it has none\)"):
        artifacts.named("0.3.35")
    artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    with pytest.raises(PaddockError, match=rf"it has {NAME}"):
        artifacts.named("0.3.35")


def test_an_artifact_that_was_changed_where_it_is_kept_is_not_exported(artifacts: Artifacts, tmp_path: Path) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.archive(NAME).write_bytes(b"something else")
    with pytest.raises(PaddockError, match="was changed since it was stored"):
        artifacts.export(added, tmp_path / "carried")
    assert not (tmp_path / "carried").exists()


@pytest.fixture
def recorded(artifacts: Artifacts, tmp_path: Path) -> Artifacts:
    """After a restore from git: what was built is described, and its archive is gone."""
    artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.archive(NAME).unlink()
    return artifacts


def test_one_whose_archive_is_gone_is_recorded_and_cannot_travel(recorded: Artifacts, tmp_path: Path) -> None:
    (described,) = recorded.recorded()
    assert (described.name, described.archived) == (NAME, False)
    assert recorded.all() == () and not recorded.has(RELEASE)
    with pytest.raises(PaddockError, match=r"the archive is not here, only what is recorded of it"):
        recorded.export(described, tmp_path)


def test_what_a_host_gives_back_is_taken_where_it_is_what_was_recorded(recorded: Artifacts, tmp_path: Path) -> None:
    recorded.take_back(packed(tmp_path / "back.tar.gz"), RELEASE)
    (artifact,) = recorded.all()
    assert (artifact.distribution, artifact.size) == ("debian 13", recorded.archive(NAME).stat().st_size)
    recorded.export(artifact, tmp_path / "carried")


def test_what_a_host_gives_back_is_refused_where_its_files_are_whole_and_others(recorded: Artifacts, tmp_path: Path) -> None:
    def exchanged(files: dict[str, bytes]) -> None:
        files["bin/llama-server"] = PROGRAM + b" "
        files["MANIFEST"] = f"{hashlib.sha256(PROGRAM + b' ').hexdigest()}  bin/llama-server\n".encode()

    with pytest.raises(PaddockError, match=rf"not those that were recorded when it was built: `paddock artifacts prune {NAME}`"):
        recorded.take_back(packed(tmp_path / "back.tar.gz", exchanged), RELEASE)
    assert recorded.all() == ()


def test_one_that_is_removed_is_gone(artifacts: Artifacts, tmp_path: Path) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.remove(added)
    assert artifacts.all() == ()
    assert list(artifacts.directory.iterdir()) == []
