"""Talk to a model of the fleet.

examples:
  paddock chat                                   the model in memory, else the first model
  paddock chat "Why is the sky blue?"            one question, one answer
  paddock chat --host ai --model qwen-35b --system "Answer in one sentence."
  git diff | paddock chat --system "Review this."

Ctrl-C stops an answer, Ctrl-D ends the chat, /new starts a new one. Paddock does not store conversations.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from cli.arguments import Opened, limit_argument, opened
from cli.servers import each_reached, host_names, model_names, own_name, reached, server_argument, servers_meant, serving, told
from cli.views.colour import dimmed
from cli.views.terminal import unfiltered
from cli.views.voice import Voice, pace
from inventory.bounds import TYPED, size_words
from inventory.errors import PaddockError, UsageError
from roles.preset import purpose
from roles.server import Server

if TYPE_CHECKING:
    from control.ssh.reach import Reach

Messages = list[dict[str, str]]

PROMPT = "> "
NEW, QUIT = "/new", "/quit"


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("question", nargs="?", help="ask one question; without it, standard input or a conversation")
    command.add_argument("--host", metavar="HOST", help="use a server of this host").completer = host_names  # type: ignore[attr-defined]
    command.add_argument("--model", metavar="MODEL", help="use this model").completer = model_names  # type: ignore[attr-defined]
    command.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    options.limit += [options.host] if options.host else []
    this = opened(options)
    options.model = options.model and own_name(this, options.model)
    servers = _candidates(this, options)
    question = options.question
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.read(TYPED.size + 1)
        if len(question) > TYPED.size:
            raise UsageError(f"standard input is larger than {size_words(TYPED.size)}")
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
        raise UsageError("no chat model is served there: `paddock models list` shows the models")
    return found


def _talking(this: Opened, server: Server) -> tuple[str, ...]:
    """The models of a server that talk, and do not only embed or rank."""
    return tuple(model for model in server.models if purpose(this.fleet.preset(server, model)) == "chat")


def _model(reach: Reach, server: Server, wanted: str | None, talking: tuple[str, ...]) -> str:
    """The model, loaded. Without a wish, it is the one of those that talk which is in memory, or else the first of them."""
    from control.servers import served

    model = wanted or served.at_work(reach, server, talking) or talking[0]
    served.load(reach, server, model, lambda status: print(f"{model}: {status}", file=sys.stderr, flush=True))
    return model


class Chat:
    """One conversation. `stopped` says whether the last answer was cut short by Ctrl-C."""

    def __init__(self, reach: Reach, server: Server, model: str, system: str) -> None:
        from control.servers.http import Asking

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
        from control.servers.http import Stop
        from control.ssh.reach import on_interrupt

        self.stopped, stop = False, Stop()
        self.messages.append({"role": "user", "content": question})
        body = {"model": self.model, "messages": self.messages, "stream": True}
        voice = Voice(unfiltered(sys.stdout))
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
            print(dimmed(pace(timings, self.stopped), sys.stderr), file=sys.stderr)
