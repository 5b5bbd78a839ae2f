"""Talk to a model of the fleet.

examples:
  paddock chat                                   with what is in memory, else with the first model
  paddock chat "Why is the sky blue?"            one question, one answer
  paddock chat --host ai --model qwen-35b --system "Answer in one sentence."
  git diff | paddock chat --system "Review this."

Ctrl-C stops an answer, Ctrl-D ends the chat, /new begins another. What was said is kept nowhere.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from cli.opening import Opened, limit_argument, opened
from cli.servers import each_reached, host_names, model_names, own_name, reached, server_argument, servers_meant, serving, told
from inventory.errors import PaddockError, UsageError
from inventory.servers import Server
from roles.preset import purpose

if TYPE_CHECKING:
    from control.reach import Reach

Messages = list[dict[str, str]]

PROMPT = "> "
NEW, QUIT = "/new", "/quit"

CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a model says must not steer the terminal."""


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("question", nargs="?", help="the only one; without it, standard input or a conversation")
    command.add_argument("--host", metavar="HOST", help="the host whose server is asked").completer = host_names  # type: ignore[attr-defined]
    command.add_argument("--model", metavar="MODEL", help="the model that is asked").completer = model_names  # type: ignore[attr-defined]
    command.add_argument("--system", default="", metavar="TEXT", help="what the model is told first")
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    options.limit += [options.host] if options.host else []
    this = opened(options)
    options.model = options.model and own_name(this, options.model)
    servers = _candidates(this, options)
    question = options.question
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.read()
    if question is not None and not question.strip():
        raise UsageError('there is no question: give one as in `paddock chat "Why is the sky blue?"`, or through a pipe')
    with reached(this, servers) as reach:
        server = next(each_reached(reach, servers), None)
        if server is None:
            return 1
        chat = Chat(reach, server, _model(reach, server, options.model, _talking(this, server)), options.system)
        if question is not None:
            chat.ask(question)
            return 1 if chat.stopped else 0
        return chat.converse()


def _candidates(this: Opened, options: argparse.Namespace) -> tuple[Server, ...]:
    """The servers that may be meant, but for those that only embed."""
    if options.model:
        return serving(this, options.model, options.server)
    found = tuple(each for each in servers_meant(this, options.server) if _talking(this, each))
    if not found:
        raise UsageError("no model that talks is served there: `paddock models list` shows what is")
    return found


def _talking(this: Opened, server: Server) -> tuple[str, ...]:
    """The models of a server that talk, and do not only embed or rank."""
    return tuple(model for model in server.models if purpose(this.fleet.preset(server, model)) == "chat")


def _model(reach: Reach, server: Server, wanted: str | None, talking: tuple[str, ...]) -> str:
    """The model, loaded. Without a wish, it is the one of those that talk which is in memory, or else the first of them."""
    from control import serving as served

    model = wanted or served.at_work(reach, server, talking) or talking[0]
    served.load(reach, server, model, lambda status: print(f"{model}: {status}", file=sys.stderr, flush=True))
    return model


class Chat:
    """One conversation. `stopped` says whether the last answer was cut short by Ctrl-C."""

    def __init__(self, reach: Reach, server: Server, model: str, system: str) -> None:
        from control.serving import Asking

        self.asking, self.server, self.model = Asking(reach, server), server, model
        self.beginning: Messages = [{"role": "system", "content": system}] if system else []
        self.messages = list(self.beginning)
        self.stopped = False

    def converse(self) -> int:
        import readline  # noqa: F401 - what makes input() an editor with a history

        print(f"{self.model} on {told(self.server)}. Ctrl-C stops an answer, Ctrl-D ends the chat, {NEW} begins another.", file=sys.stderr)
        while True:
            try:
                said = input(PROMPT).strip()
            except KeyboardInterrupt:
                print()
                continue
            except EOFError:
                print()
                return 0
            if said == QUIT:
                return 0
            if said == NEW:
                self.messages = list(self.beginning)
                continue
            if said:
                try:
                    self.ask(said)
                except PaddockError as error:
                    self.messages.pop()
                    print(error, file=sys.stderr)

    def ask(self, question: str) -> None:
        """Prints the answer as it comes, and keeps both for what is asked next."""
        from control.reach import on_interrupt
        from control.serving import Stop

        self.stopped, stop = False, Stop()
        self.messages.append({"role": "user", "content": question})
        body = {"model": self.model, "messages": self.messages, "stream": True}
        voice = _Voice(sys.stdout)
        timings: dict[str, Any] = {}
        try:
            with on_interrupt(stop):
                for event in self.asking.stream("/v1/chat/completions", body, stop):
                    timings = event.get("timings") or timings
                    for choice in event.get("choices", []):
                        delta = choice.get("delta", {})
                        voice.think(delta.get("reasoning_content") or "")
                        voice.say(delta.get("content") or "")
        finally:
            voice.end()
        self.stopped = stop.meant
        self.messages.append({"role": "assistant", "content": "".join(voice.said)})
        if sys.stderr.isatty():
            print(_dim(_pace(timings, self.stopped), sys.stderr), file=sys.stderr)


class _Voice:
    """Prints what a model thinks, dimmed and only on a terminal, and what it says."""

    def __init__(self, stream: TextIO) -> None:
        self.said: list[str] = []
        self.stream = stream
        self.live = stream.isatty()
        self.thinking = False
        self.last = "\n"

    def think(self, text: str) -> None:
        if text and self.live:
            self._write(_dim(text.translate(CONTROL), self.stream))
            self.thinking = True

    def say(self, text: str) -> None:
        if not text:
            return
        if self.thinking:
            self._write("\n\n")
            self.thinking = False
        self.said.append(text)
        self._write(text.translate(CONTROL) if self.live else text)

    def end(self) -> None:
        if not self.last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
        self.last = text or self.last


def _dim(text: str, stream: TextIO) -> str:
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[2m{text}\033[0m" if wanted else text


def _pace(timings: dict[str, Any], stopped: bool) -> str:
    if not timings:
        return "(stopped)" if stopped else ""
    tokens, pace = timings.get("predicted_n", 0), timings.get("predicted_per_second", 0.0)
    return f"({tokens} tokens, {pace:.1f} tokens/s; {timings.get('prompt_n', 0)} read, {timings.get('cache_n', 0)} remembered)"
