"""Text of others is shown, and does nothing else to the terminal; Paddock's own colours do what they should."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cli import main
from cli.views.table import table
from cli.views.terminal import Shown, control, shown, shown_streams

HOSTILE = "x/\x1b]0;P\x07\x1b[2J\r\x9b1m\u202e\u061cfalse\ud800"


def test_what_steers_a_terminal_is_made_visible() -> None:
    assert shown(HOSTILE) == "x/\\x1b]0;P\\x07\\x1b[2J\\r\\x9b1m\\u202e\\u061cfalse\\ud800"


def test_lines_and_tabs_and_the_letters_of_all_languages_stay() -> None:
    assert shown("a\tb\nüñ日本\n") == "a\tb\nüñ日本\n"


def test_paddocks_own_sequences_pass_and_nobody_elses_look_like_them() -> None:
    assert shown(control("\x1b[31m") + "red" + control("\x1b[0m")) == "\x1b[31mred\x1b[0m"
    assert "\x1b" not in shown("\ue00000000000000000001b5b324a;")


def test_all_that_is_printed_goes_that_way(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_streams():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
    print("plain")
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and told.out.endswith("false\\ud800\nplain\n")


def test_a_stream_is_otherwise_the_one_that_it_was() -> None:
    stream = io.StringIO()
    assert Shown(stream).isatty() is False and Shown(stream).write("ab") == 2  # type: ignore[arg-type]


def test_a_row_of_a_table_is_one_line_whatever_is_in_it() -> None:
    assert table([("host", "model"), ("ai", "x\nfalse  line")]).split("\n")[1:] == ["ai    x\\nfalse  line"]


def test_so_does_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fault(options: object) -> int:
        raise ValueError(HOSTILE)

    monkeypatch.setattr("cli.check.run", fault)
    assert main(["check"]) == 1
    told = capsys.readouterr().err
    assert "ValueError: x/\\x1b]0;P" in told and "\x1b" not in told


def test_so_do_lines_that_are_written_together() -> None:
    stream = io.StringIO()
    Shown(stream).writelines([HOSTILE, "\n"])  # type: ignore[arg-type]
    assert "\x1b" not in stream.getvalue() and stream.getvalue().endswith("\\ud800\n")
