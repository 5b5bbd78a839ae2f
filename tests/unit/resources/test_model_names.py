"""One file of a host under several names: what a host does with a model that it has already. The functions of a host, in a real shell."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from resources import ModelFile, scripts
from resources.model import room
from resources.probe import Actual, actual_of, probe_script

CONTENT = b"GGUF, and 36 GB of weights"
SHA = hashlib.sha256(CONTENT).hexdigest()


class Host:
    """A directory of models and a manifest that names them."""

    def __init__(self, place: Path) -> None:
        self.models, self.manifest, self.stage = place / "models", place / "manifest", place / "stage"
        for each in (self.models, self.stage):
            each.mkdir()

    def path(self, name: str) -> Path:
        return self.models / f"{name}.gguf"

    def notes(self, *names: str) -> None:
        self.manifest.write_text("".join(f"data model:{self.path(name)}\n" for name in names))

    def runs(self, script: str) -> str:
        head = f"set -eu; umask 077; LC_ALL=C; stage={self.stage}; at=; tab=$(printf '\\t')"
        text = f"{head}\n{scripts()}\n{script}\n".replace("/var/lib/paddock/manifest", str(self.manifest))
        done = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if not line.startswith("paddock-does: ")]
        return "\n".join([done.stdout, *said]).strip() + (f" ({done.returncode})" if done.returncode else "")

    def puts(self, name: str, how: str = "held", content: bytes = CONTENT) -> str:
        (self.stage / "it").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return self.runs(f"put_model {self.path(name)} {sha256} {len(content)} {how} {'it' if how == 'staged' else ''}")

    def probed(self, *names: str, deep: bool = False) -> Actual:
        asked = [ModelFile(str(self.path(name)), SHA, len(CONTENT), "local x.gguf") for name in names]
        script = probe_script(asked, "echo this", deep=deep).replace("/var/lib/paddock/manifest", str(self.manifest))
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True)
        return actual_of(done.stdout.splitlines(), asked)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """With one model, `chat`; `talk` is noted and to come."""
    made = Host(tmp_path)
    made.notes("chat", "talk")
    assert made.puts("chat", "staged") == ""
    return made


def test_a_second_name_is_the_same_file_and_needs_nothing_sent(host: Host) -> None:
    assert host.puts("talk") == ""
    assert host.path("talk").samefile(host.path("chat"))
    assert host.path("talk").stat().st_nlink == 2


def test_of_a_content_that_is_sent_all_the_same_no_second_copy_is_kept(host: Host) -> None:
    assert host.puts("talk", "staged") == ""
    assert host.path("talk").samefile(host.path("chat"))


def test_each_name_has_a_note_of_its_own_that_the_probe_believes(host: Host) -> None:
    host.puts("talk")
    found = host.probed("chat", "talk")
    assert found.held == {str(host.path(name)): SHA for name in ("chat", "talk")}
    assert {each["sha256"] for each in found.resources.values()} == {SHA}
    assert len(set(found.names.values())) == 1 and {count for _, count in found.names.values()} == {2}


def test_what_came_of_a_download_before_goes(host: Host) -> None:
    (host.models / "talk.gguf.part").write_bytes(b"GG")
    host.puts("talk")
    assert not (host.models / "talk.gguf.part").exists()


def test_a_name_that_gets_another_content_leaves_the_other_name_as_it_is(host: Host) -> None:
    host.puts("talk")
    assert host.puts("talk", "staged", b"GGUF of another") == ""
    assert host.path("chat").read_bytes() == CONTENT
    assert host.path("talk").read_bytes() == b"GGUF of another"


def test_a_name_that_goes_takes_the_file_from_no_other(host: Host) -> None:
    host.puts("talk")
    host.runs(f"gone_model {host.path('chat')}")
    assert host.path("talk").read_bytes() == CONTENT
    assert host.probed("talk").held == {str(host.path("talk")): SHA}


def test_another_owner_or_mode_is_mended_without_a_download(host: Host) -> None:
    host.path("chat").chmod(0o600)
    assert host.puts("chat") == ""
    assert host.path("chat").stat().st_mode & 0o777 == 0o644
    assert host.path("chat").read_bytes() == CONTENT


def test_a_file_that_changed_after_it_was_noted_is_no_source(host: Host) -> None:
    host.path("chat").write_bytes(CONTENT + b"!")
    assert host.puts("talk").startswith("the file that it is another name of was there, and is not any more: run it again")
    assert not host.path("talk").exists()


def test_a_file_that_nobody_noted_is_no_source(host: Host) -> None:
    (host.models / "chat.gguf.sha256").unlink()
    assert "run it again" in host.puts("talk")


def test_once_all_of_a_file_was_read_and_is_wrong_no_name_of_it_is_a_source(host: Host) -> None:
    """A byte was altered, and size, time and inode are as they were: only a deep look sees that."""
    host.puts("talk")
    path = host.path("chat")
    script = f"touch -r {path} {host.stage}/then; printf x | dd of={path} conv=notrunc status=none; touch -r {host.stage}/then {path}"
    subprocess.run(["sh", "-c", script], check=True)
    assert host.probed("talk").held == {str(host.path(name)): SHA for name in ("chat", "talk")}
    assert host.probed("talk", deep=True).held == {}
    assert host.puts("talk", "staged") == ""
    assert host.path("talk").read_bytes() == CONTENT


def test_a_model_of_the_users_is_no_source(host: Host) -> None:
    host.manifest.write_text("put model:/nowhere\n")
    assert host.probed("chat").held == {}
    assert "run it again" in host.puts("talk")


def test_room_is_asked_for_each_content_once_and_for_none_that_is_there(host: Host) -> None:
    new = "b" * 64
    models = [
        ModelFile(str(host.path("talk")), SHA, 1 << 60, "url x"),
        ModelFile(str(host.path("one")), new, 1 << 60, "url x"),
        ModelFile(str(host.path("two")), new, 1 << 60, "url x"),
    ]
    assert host.runs(room(models[:1]).calls[0]) == ""
    assert host.runs(room(models).calls[0]).startswith("1073741824.0 GiB of models are to come")
