"""What the admin endpoint makes of a file of presets, and what is left of it when it is killed at any step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from control.models.local import tiny_model
from services.admin.actions import MOST
from services.admin.answers import Refusal
from services.admin.presets import CHANGED, option, replace, slots, trained, unfinished, with_context

ROOT = Path(__file__).parents[3]
NOTE = f"{CHANGED} laptop, 2026-11-21 17:30 UTC"
PRESETS = """# Written by Paddock. What every model is served with:
[*]
ctx-size = 512
metrics = true

[chat]
model = /srv/models/chat.gguf
ctx-size = 8192 ; a word of somebody's
temp = 0.7

[code.v2]
model = /srv/models/code.gguf

[short]
model = /srv/models/short.gguf
c = 4096
"""


def changed(model: str, size: int, text: str = PRESETS) -> tuple[list[str], list[str], int | None]:
    """The lines that went, those that came, and the context until then."""
    after, was = with_context(text, model, size, NOTE)
    before, now = text.split("\n"), after.split("\n")
    return [line for line in before if line not in now], [line for line in now if line not in before], was


def test_one_line_changes_and_a_note_stands_above_it() -> None:
    after, was = with_context(PRESETS, "chat", 16384, NOTE)
    assert after == PRESETS.replace("ctx-size = 8192 ; a word of somebody's", f"{NOTE}\nctx-size = 16384")
    assert was == 8192


def test_a_second_change_takes_the_note_of_the_first_away() -> None:
    first, _ = with_context(PRESETS, "chat", 16384, NOTE)
    later = f"{CHANGED} phone, 2026-11-22 08:00 UTC"
    second, was = with_context(first, "chat", 4096, later)
    assert second == PRESETS.replace("ctx-size = 8192 ; a word of somebody's", f"{later}\nctx-size = 4096")
    assert was == 16384


def test_two_models_have_a_note_each() -> None:
    first, _ = with_context(PRESETS, "chat", 16384, NOTE)
    assert with_context(first, "code.v2", 1024, NOTE)[0].count(NOTE) == 2


def test_what_all_models_have_is_where_one_without_its_own_begins() -> None:
    after, was = with_context(PRESETS, "code.v2", 1024, NOTE)
    assert after == PRESETS.replace("model = /srv/models/code.gguf\n", f"model = /srv/models/code.gguf\n{NOTE}\nctx-size = 1024\n")
    assert was == 512


def test_where_nothing_is_said_it_was_the_models_own() -> None:
    assert changed("code.v2", 1024, PRESETS.replace("ctx-size = 512\n", ""))[2] is None


def test_the_short_name_of_the_option_stays_as_it_is_written() -> None:
    assert changed("short", 8192) == (["c = 4096"], [NOTE, "c = 8192"], 4096)


def test_of_an_option_that_stands_twice_the_last_counts_and_one_is_left() -> None:
    twice = PRESETS.replace("temp = 0.7", "c = 2048\ntemp = 0.7")
    gone, come, was = changed("chat", 1024, twice)
    assert (gone, come, was) == (["ctx-size = 8192 ; a word of somebody's", "c = 2048"], [NOTE, "c = 1024"], 2048)


@pytest.mark.parametrize("text", [PRESETS, PRESETS.rstrip("\n"), PRESETS.replace("\n", "\r\n"), PRESETS + "\n\n# the end\n\n"])
def test_all_else_stays_to_the_byte(text: str) -> None:
    after, _ = with_context(text, "chat", 9999, NOTE)
    kept = [line for line in after.split("\n") if line != NOTE and "9999" not in line]
    assert kept == [line for line in text.split("\n") if "8192" not in line]


def test_a_section_that_is_gone_is_told() -> None:
    with pytest.raises(Refusal) as refused:
        with_context(PRESETS, "chat.v2", 1024, NOTE)
    assert (refused.value.status, "no section [chat.v2]" in str(refused.value)) == (409, True)


def test_the_model_of_a_section_is_found() -> None:
    assert option(PRESETS, "code.v2", ("model",)) == "/srv/models/code.gguf"


def test_the_context_that_a_model_was_made_for_stands_in_its_file(tmp_path: Path) -> None:
    assert trained(str(tiny_model())) == 32768
    (tmp_path / "other").write_bytes(b"GGUF and nothing else")
    assert [trained(path) for path in ("", str(tmp_path / "other"), str(tmp_path / "none"), str(tmp_path))] == [None] * 4
    assert MOST > 32768


@pytest.mark.parametrize(("line", "count"), [("parallel = 2", 2), ("np = 1", 1), ("parallel = -1", 4), ("temp = 1", 4)])
def test_each_slot_may_have_what_the_model_was_made_for(line: str, count: int) -> None:
    assert slots(f"[large]\n{line}\n", "large") == count


def test_the_file_keeps_its_mode_and_belongs_to_who_it_belonged_to(tmp_path: Path) -> None:
    path = tmp_path / "presets.ini"
    for mode in (0o644, 0o640):
        path.write_text("before")
        path.chmod(mode)
        replace(path, "after")
        assert (path.read_text(), path.stat().st_mode & 0o7777, path.stat().st_uid) == ("after", mode, os.geteuid())
    assert [each.name for each in tmp_path.iterdir()] == ["presets.ini"]


def test_a_link_that_lies_where_the_unfinished_file_goes_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "presets.ini", tmp_path / "other"
    path.write_text("before")
    other.write_text("of somebody else")
    unfinished(path).symlink_to(other)
    replace(path, "after")
    assert (path.read_text(), other.read_text(), path.is_symlink()) == ("after", "of somebody else", False)


KILLED = """
import os, signal, sys
from pathlib import Path
from services.admin import presets
left = int(sys.argv[2])
def step(frame, event, argument):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step
sys.settrace(lambda frame, event, argument: step(frame, event, argument) if frame.f_code is presets.replace.__code__ else None)
presets.replace(Path(sys.argv[1]), "after\\n" * 20000)
"""


def test_killed_at_any_step_the_file_is_the_one_or_the_other_and_the_next_change_succeeds(tmp_path: Path) -> None:
    path, found = tmp_path / "presets.ini", []
    for steps in range(100):
        path.write_text("before\n" * 20000)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(steps)], cwd=ROOT, check=False).returncode
        found.append(path.read_text().split()[0])
        assert path.read_text() in ("before\n" * 20000, "after\n" * 20000), steps
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert found[0] == "before" and found[-1] == "after" and len(found) > 12, found
    replace(path, "whole\n")
    assert [each.name for each in tmp_path.iterdir()] == ["presets.ini"]
