"""Artifacts: taken in from a builder, carried from one fleet to another, and refused where they are not what they say."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from cli import main
from control.llama_cpp.artifacts import Artifacts, _description, needs_of
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


def test_an_exported_artifact_is_the_same_in_another_fleet_that_says_whose_key_it_takes(
    artifacts: Artifacts, others: Artifacts, tmp_path: Path
) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    key = artifacts.export(added, tmp_path / "carried")
    assert others.take_in(tmp_path / "carried", key=key) == replace(added, imported=f"signed by {key}")
    assert [each.name for each in others.all()] == [NAME]
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
            others.take_in(carried, unsigned=True)
        assert others.all() == ()

    at = whole.index(b"\x1f\x8b") + 2000
    refused(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "was damaged in transit")
    refused(whole[: len(whole) // 2], "was not written by|was damaged")
    refused(b"hello", "was not written by `paddock artifacts export`")
    refused(b"", "was not written by `paddock artifacts export`")
    refused(_saying(libc="1.0")(whole), "was changed after it was signed")
    refused(_saying(libc="1.0", **UNSIGNED)(whole), "its description does not match its programs")
    refused(_saying(name="../../../x-" + FINGERPRINT[:12], **UNSIGNED)(whole), "is not the name of a release")


UNSIGNED: dict[str, Any] = {"signer": None, "signature": None}


def _saying(**told: Any) -> Callable[[bytes], bytes]:
    """Makes an exported file one that says something else of itself; None is left out."""
    return lambda whole: _rewritten(whole, {}, told)


def _rewritten(whole: bytes, files: dict[str, bytes], told: dict[str, Any]) -> bytes:
    """The exported file with these members in place of its own, and with something else in its description."""
    result = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=result, mode="w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file
            content = files.get(member.name, file.read())
            if member.name == "artifact.json":
                content = json.dumps({key: value for key, value in {**json.loads(content), **told}.items() if value is not None}).encode()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return result.getvalue()


def patched(whole: bytes, place: Path, told: dict[str, Any]) -> bytes:
    """What somebody with the stick makes of it: another program, the list of files and all digests made anew to fit."""

    def exchanged(files: dict[str, bytes]) -> None:
        files["bin/llama-server"] = PROGRAM + b"patched"
        files["MANIFEST"] = f"{hashlib.sha256(PROGRAM + b'patched').hexdigest()}  bin/llama-server\n".encode()

    archive = packed(place / "patched.tar.gz", exchanged).read_bytes()
    with tarfile.open(place / "patched.tar.gz") as tar:
        listed = tar.extractfile(f"{NAME}/MANIFEST")
        assert listed
        manifest = hashlib.sha256(listed.read()).hexdigest()
    fits = {"sha256": hashlib.sha256(archive).hexdigest(), "size": len(archive), "manifest": manifest}
    return _rewritten(whole, {"release.tar.gz": archive}, {**fits, **told})


def _signed_by(fleet: Artifacts, whole: bytes) -> bytes:
    """The exported file, signed with the key of a fleet."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        description = tar.extractfile("artifact.json")
        assert description
        record = {name: value for name, value in json.loads(description.read()).items() if name not in UNSIGNED}
    return _rewritten(whole, {}, fleet.key.signed(record))


@pytest.mark.parametrize("how", ["with the signature that it had", "without one", "with the thief's own"])
def test_a_patched_program_whose_digests_were_made_anew_is_not_taken(
    artifacts: Artifacts, others: Artifacts, tmp_path: Path, how: str
) -> None:
    carried = tmp_path / "carried"
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    key = artifacts.export(added, carried)
    made = patched(carried.read_bytes(), tmp_path, UNSIGNED if how == "without one" else {})
    carried.write_bytes(_signed_by(others, made) if how == "with the thief's own" else made)
    artifacts.remove(added)
    for named in ("", key):
        with pytest.raises(
            PaddockError, match=r"was changed after it was signed|is not signed, so nobody can say|is signed by another fleet"
        ):
            artifacts.take_in(carried, key=named)
        assert list(artifacts.directory.iterdir()) == []


def test_what_nobody_vouches_for_is_taken_where_that_is_said_and_remembered(
    artifacts: Artifacts, others: Artifacts, tmp_path: Path
) -> None:
    carried = tmp_path / "carried"
    artifacts.export(artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13"), carried)
    carried.write_bytes(_saying(**UNSIGNED)(carried.read_bytes()))
    assert others.take_in(carried, unsigned=True).imported == "unsigned"
    others.export(others.named(NAME), carried)
    others.remove(others.named(NAME))
    assert others.take_in(carried).imported == "unsigned", "its own key says that it was carried in like that"


def test_what_a_fleet_has_exported_itself_it_takes_as_it_is(artifacts: Artifacts, tmp_path: Path) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    artifacts.export(added, tmp_path / "carried")
    artifacts.remove(added)
    assert artifacts.take_in(tmp_path / "carried") == added


@pytest.mark.parametrize("signer", [7, "", "zz", "ab" * 31, [1], {"a": 1}])
def test_a_signature_of_no_form_is_none_that_fits(artifacts: Artifacts, tmp_path: Path, signer: object) -> None:
    carried = tmp_path / "carried"
    artifacts.export(artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13"), carried)
    carried.write_bytes(_saying(signer=signer)(carried.read_bytes()))
    with pytest.raises(PaddockError, match="was changed after it was signed"):
        artifacts.take_in(carried, unsigned=True)


@pytest.mark.parametrize("how", ["as an earlier version wrote it", "edited", "signed by others"])
def test_a_record_that_the_fleets_key_has_not_signed_counts_as_not_there(
    artifacts: Artifacts, others: Artifacts, tmp_path: Path, how: str
) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    path = artifacts.directory / f"{NAME}.json"
    record = json.loads(path.read_text())
    plain = {name: value for name, value in record.items() if name not in UNSIGNED}
    others.state.directory()
    written = {
        "as an earlier version wrote it": plain,
        "edited": {**record, "manifest": "ab" * 32},
        "signed by others": others.key.signed(plain),
    }
    path.write_text(json.dumps(written[how]))
    assert artifacts.recorded() == () and [each.name for each in artifacts.unsigned()] == [NAME]
    with pytest.raises(PaddockError, match=rf"no host is given the release: `paddock artifacts prune {NAME}`"):
        artifacts.signed_manifest(RELEASE)
    with pytest.raises(PaddockError, match="is not signed by this fleet's key"):
        artifacts.export(artifacts.named(NAME), tmp_path / "carried")
    artifacts.remove(artifacts.named(NAME))
    assert added not in artifacts.unsigned()


def test_an_archive_with_a_file_more_than_was_signed_is_given_to_no_host(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    packed(artifacts.archive(NAME), lambda files: files.update({"bin/libggml-more.so": PROGRAM}))
    with pytest.raises(PaddockError, match="was changed since it was stored"):
        artifacts.signed_manifest(RELEASE)


def test_who_cannot_open_the_key_sees_what_there_is_and_gives_none_of_it_to_a_host(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    assert artifacts.signed_manifest(RELEASE) == added.manifest
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pyrage.x25519.Identity.generate()))
    looking = Artifacts(artifacts.state)
    assert looking.recorded() == (added,)
    with pytest.raises(PaddockError, match="encrypted for other recipients than you"):
        looking.signed_manifest(RELEASE)


def test_the_key_is_sealed_and_goes_into_git(artifacts: Artifacts, tmp_path: Path) -> None:
    artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    assert (artifacts.state.path / "release.key.age").read_bytes().startswith(b"age-encryption.org/")
    assert "!*.age" in (artifacts.state.path / ".gitignore").read_text().splitlines()


HOME = "fleet: home\ndomain: home.example\nhosts: {ai: {address: 192.0.2.10, roles: {llama_cpp: }}}\n"


def test_the_command_says_what_it_takes_and_who_vouches_for_it(
    artifacts: Artifacts, others: Artifacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home.yml").write_text(HOME)
    (tmp_path / "island.yml").write_text(HOME.replace("home\n", "island\n", 1))
    added = artifacts.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    (artifacts.directory / "old.json").write_text(json.dumps({**_description(added), "name": "old"}))

    def said(inventory: str, *words: str) -> tuple[int, str]:
        code = main(["-i", str(tmp_path / inventory), "artifacts", *words])
        return code, capsys.readouterr().err

    carried = str(tmp_path / "carried")
    code, told = said("home.yml", "export", NAME, "-o", carried)
    key = told.rpartition(" ")[2].strip()
    assert (code, len(key)) == (0, 64)
    assert said("home.yml", "list") == (0, "old: not used, this fleet's key has not signed it: `paddock artifacts prune` removes it\n")
    assert said("home.yml", "prune", "old")[0] == 0 and not (artifacts.directory / "old.json").exists()
    assert said("island.yml", "import", carried) == (
        1,
        f"{carried}: is signed by another fleet, with the key {key}: if `paddock artifacts export` said just that key where it was"
        f" exported, add `--key {key}`\n",
    )
    assert said("island.yml", "import", "--key", "3f2a", carried)[0] == 2
    assert said("island.yml", "import", "--key", key, carried)[0] == 0
    assert said("island.yml", "list") == (0, f"{NAME}: was imported, signed by {key}\n")


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
