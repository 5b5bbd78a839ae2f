"""A release lands on a host, and the probe looks at it: both with the real shell functions."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resources import Release, scripts
from resources.probe import Actual, ProbeAnswer
from resources.steps import Steps

FINGERPRINT = "1f0c8a2b3c4d" + "0" * 52
GENUINE, PATCHED = b"#!/bin/sh\necho genuine\n", b"#!/bin/sh\necho patched\n"


def listed(program: bytes) -> bytes:
    return f"{hashlib.sha256(program).hexdigest()}  bin/llama-server\n".encode()


def manifest_of(program: bytes) -> str:
    return hashlib.sha256(listed(program)).hexdigest()


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "releases").mkdir()
    return Release(
        path=f"{tmp_path}/releases/1-{FINGERPRINT[:12]}",
        current=f"{tmp_path}/current",
        version="1",
        fingerprint=FINGERPRINT,
        source="",
        options=(),
        targets=(),
        packages=(),
        manifest=manifest_of(GENUINE),
    )


class Host:
    """What a release asks while it lands, of a host that lacks it and is sent `program`."""

    resources: tuple[Release, ...] = ()
    actual = Actual()

    def __init__(self, release: Release, program: bytes, place: Path) -> None:
        archive = place / "archive.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, data in (
                (".paddock-release", f"{FINGERPRINT}\n".encode()),
                ("MANIFEST", listed(program)),
                ("bin/llama-server", program),
            ):
                member = tarfile.TarInfo(f"1-{FINGERPRINT[:12]}/{name}")
                member.size, member.mode = len(data), 0o755
                tar.addfile(member, io.BytesIO(data))
        self.payload, self.trials = {release.id: archive}, {release.id: b""}

    def manifest_of(self, release: Release) -> Callable[[], bytes]:
        return release.manifest.encode


def landed(release: Release, program: bytes, place: Path) -> subprocess.CompletedProcess[str]:
    steps, stage = Steps(), place / "stage"
    release.land(steps, Host(release, program, place))  # type: ignore[arg-type]
    stage.mkdir()
    with tarfile.open(fileobj=io.BytesIO(steps.archive(scripts().encode()))) as tar:
        tar.extractall(stage, filter="data")
    gate = next(member.name for member, read in steps.members if b"Tries a release" in read())
    (stage / gate).write_text("exit 0\n")
    run = f"set -eu; stage={stage}; . {stage}/host.sh; . {stage}/steps"
    return subprocess.run(["sh", "-c", run], capture_output=True, text=True)


def probed(release: Release) -> dict[str, str]:
    head = "LC_ALL=C; tab=$(printf '\\t'); mark='#m'; IFS='\n'; set -f; echo \"$mark\"; deep() { false; }"
    run = f"{head}; releases() {{ echo {release.path}; }}; {scripts()}\nprobe_release\nsection end"
    said = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(release.found(ProbeAnswer(said, [release])))


def test_what_the_key_has_signed_lands_and_is_seen_as_that(release: Release, tmp_path: Path) -> None:
    done = landed(release, GENUINE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(release.current).resolve() == Path(release.path)
    assert probed(release) == {"fingerprint": FINGERPRINT, "manifest": manifest_of(GENUINE)}
    assert release.lies_on(probed(release))


def test_a_patched_program_whose_list_of_files_fits_does_not_land(release: Release, tmp_path: Path) -> None:
    done = landed(release, PATCHED, tmp_path)
    assert done.returncode == 1
    assert "is not what the fleet's key has signed: its list of files was changed" in done.stderr
    assert not Path(release.path).exists() and not Path(release.current).exists()


def test_a_program_that_was_patched_on_the_host_with_its_list_of_files_is_seen(release: Release, tmp_path: Path) -> None:
    landed(release, GENUINE, tmp_path)
    Path(release.path, "bin/llama-server").write_bytes(PATCHED)
    Path(release.path, "MANIFEST").write_bytes(listed(PATCHED))
    subprocess.run(["touch", f"{release.path}/.paddock-release"], check=True)
    found = probed(release)
    assert found == {"fingerprint": FINGERPRINT, "manifest": manifest_of(PATCHED)}
    assert not release.lies_on(found)
    assert replace(release, manifest="").lies_on(found), "nobody here knows yet what its files are to be"
