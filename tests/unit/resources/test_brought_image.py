"""An image that the control machine brings: what the host calls it, how it comes, and what a file that is not whole does."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from resources import Image
from resources.codec import read, written
from resources.probe import ProbeAnswer
from resources.steps import Steps

SHELL = Path(__file__).parents[3] / "resources"
DIGEST = "0123456789abcdef" * 4
REFERENCE = f"registry.home.example:5000/library/postgres:17@sha256:{DIGEST}"
BROUGHT = Image(REFERENCE, brought=True)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (REFERENCE, "registry.home.example:5000/library/postgres:paddock-0123456789ab"),
        (f"docker.io/library/postgres@sha256:{DIGEST}", "docker.io/library/postgres:paddock-0123456789ab"),
        (f"postgres:17@sha256:{DIGEST}", "postgres:paddock-0123456789ab"),
    ],
)
def test_the_host_knows_it_by_a_tag_with_its_digest(reference: str, name: str) -> None:
    assert Image(reference, brought=True).name == name
    assert Image(reference).name == reference


def test_it_is_there_by_that_name_and_another_resource_than_one_of_a_registry() -> None:
    answer = ProbeAnswer(["mark", "mark image", f"{BROUGHT.name}\tthere", "mark end"], [BROUGHT])
    assert dict(BROUGHT.found(answer)) == BROUGHT.desired
    assert not Image(REFERENCE).found(answer) and Image(REFERENCE).id != BROUGHT.id


def test_a_plan_that_is_read_back_has_it_so() -> None:
    (found,) = read(written({"web": (BROUGHT,)}), lambda _: "")["web"]
    assert found == BROUGHT


def run(directory: Path, *calls: str) -> subprocess.CompletedProcess[str]:
    functions = [(SHELL / name).read_text() for name in ("base.sh", "stack.sh")]
    script = "\n".join((*functions, f"stage={directory}", *calls))
    return subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True)


def test_a_file_that_is_not_as_it_was_sent_is_not_loaded_and_goes(tmp_path: Path) -> None:
    """It comes again with the next run, from its beginning."""
    part = tmp_path / "images" / "part.tar"
    for name, piece in (("0", b"first "), ("1", b"second")):
        (tmp_path / name).write_bytes(piece)
    append = [f"image_append {BROUGHT.name} {part} {done} {name}" for done, name in ((0, "0"), (6, "1"))]
    assert run(tmp_path, *append).returncode == 0
    assert part.read_bytes() == b"first second" and part.parent.stat().st_mode & 0o077 == 0
    said = run(tmp_path, f"put_brought_image {BROUGHT.name} {part} {'0' * 64}")
    assert said.returncode == 1 and "is not as it was sent, so it was not loaded: run it again" in said.stderr
    assert not part.exists()


def test_it_is_completed_with_the_digest_of_its_file(tmp_path: Path) -> None:
    local, steps = tmp_path / "image.tar", Steps()
    local.write_bytes(b"whole")
    BROUGHT.append(steps, 0, b"whole")
    BROUGHT.complete(steps, local)
    part = f"/var/lib/paddock/images/{DIGEST}.tar"
    assert steps.calls == [
        f"image_append {BROUGHT.name} {part} 0 0",
        f"put_brought_image {BROUGHT.name} {part} {hashlib.sha256(b'whole').hexdigest()}",
    ]
