"""What a model says is shown, and does nothing else to the terminal; what it is not asked is told."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from cli import main
from cli.arguments import opened
from cli.chat import _talking
from cli.views.terminal import Shown
from cli.views.voice import Voice, pace

INVENTORY = """\
fleet: mine
domain: home.example
hosts:
  ai:
    address: 127.0.0.1
    port: 1
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
      llama_server: {models: [embed]}
models:
  embed: {preset: {embeddings: true}}
"""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def test_on_a_terminal_thoughts_are_dimmed_and_apart_from_the_answer(screen: Screen) -> None:
    voice = Voice(Shown(screen))  # type: ignore[arg-type]
    voice.think("Let me see.")
    voice.say("It is ")
    voice.say("blue.")
    voice.end()
    assert screen.getvalue() == "\033[2mLet me see.\033[0m\n\nIt is blue.\n"
    assert voice.said == ["It is ", "blue."]


def test_on_a_terminal_what_is_said_cannot_steer_it(screen: Screen) -> None:
    voice = Voice(screen)
    voice.say("\033]0;title\007 a\tb\n\x9b2Jc\x7f")
    assert screen.getvalue() == "]0;title a\tb\n2Jc"


def test_in_a_pipe_there_is_the_answer_alone_as_it_was_given() -> None:
    voice = Voice(pipe := io.StringIO())
    voice.think("Let me see.")
    voice.say("\033[1mblue\n")
    voice.end()
    assert pipe.getvalue() == "\033[1mblue\n"


def test_the_pace_is_told_with_what_was_read_and_what_was_remembered() -> None:
    timings = {"predicted_n": 12, "predicted_per_second": 34.56, "prompt_n": 7, "cache_n": 100}
    assert pace(timings, stopped=False) == "(12 tokens, 34.6 tokens/s; 7 read, 100 remembered)"
    assert pace({}, stopped=True) == "(stopped)"


def test_models_that_embed_or_rank_are_not_among_those_that_talk(tmp_path: Path) -> None:
    inventory = tmp_path / "home.yml"
    more = '  rank: {preset: {pooling: rank}}\n  chat:\n  plain: {preset: {embeddings: "off"}}\n'
    inventory.write_text(INVENTORY.replace("[embed]", "[embed, rank, chat, plain]") + more)
    this = opened(argparse.Namespace(inventory=inventory, limit=[], lab=False))
    assert _talking(this, this.fleet.servers("ai")[0]) == ("chat", "plain")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hello"], "no chat model is served there"),
        (["--model", "chat", "hello"], "chat: no such model is served; there are embed"),
        (["--model", "embed", " "], "there is no question"),
        (["--host", "ia", "hello"], "--limit ia: no host, group or role"),
    ],
)
def test_what_is_wrong_with_the_command_line_is_2_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    inventory = tmp_path / "home.yml"
    inventory.write_text(INVENTORY)
    assert main(["-i", str(inventory), "chat", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1
