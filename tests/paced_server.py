"""A llama-server that takes the time that it is told to take: so that a test of speeds measures no machine. It runs on a lab host.

PACE in its environment, or `pace.json` beside the program, has its speeds in tokens a second, and how it fails: see PACE. A token is four
characters of a prompt. Each token of an answer is sent when its time has come, counted from the question, so that no delay adds up.

It does what the gate and `paddock verify` ask of a server with one model, and is thus a whole llama.cpp: `tree` writes one to be built.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

PACE: dict[str, Any] = {
    "prompts": 2000,
    "generation": 200,
    "claims": 1.0,  # its own timings are so many times as fast as it is
    "starts": "",  # how it fails before it listens: `ends`, `hangs`
    "nonsense": False,
    "no_tools": False,
    "requests": 10_000,  # then it crashes
    "lives_s": 0,  # then it crashes too, where that is not 0
    "unsteady": False,  # two rounds of answers are as much faster as slower, up to 40 %: they balance at any number
    "busy": False,
}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    asked = streamed = 0
    swing = 1.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pace: dict[str, Any]

    def do_GET(self) -> None:
        if self.path.startswith("/v1/models"):
            self.send(json.dumps({"data": [{"id": option("--alias")}]}).encode())
            return
        slots = [{"id": 0, "id_task": 1, "is_processing": self.pace["busy"]}]
        self.send(json.dumps(slots, separators=(",", ":")).encode() if self.path.startswith("/slots") else b'{"status": "ok"}')

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        began = time.monotonic()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Server)
        self.server.asked += 1
        if self.server.asked > self.pace["requests"]:
            crashes()
        if self.path == "/v1/chat/completions":
            return self.chat(asked)
        if self.path == "/v1/completions":
            return self.send(b'{"object": "text_completion", "choices": [{"text": "Hello"}]}')
        tokens = -(-len(asked["prompt"]) // 4)
        count = asked.get("n_predict", asked.get("max_tokens", 1))
        if asked.get("stream"):
            return self.completion(began, tokens, count)
        if "n_probs" not in asked:
            time.sleep(tokens / self.pace["prompts"] + count / self.pace["generation"])
            return self.send(json.dumps({"content": "from a tiny model", "timings": self.timings(tokens, count)}).encode())
        at = 1000 if self.pace["nonsense"] else 0
        places = [{"id": at, "top_logprobs": [{"id": at, "logprob": -0.1}, {"id": at + 1, "logprob": -3.0}]}] * count
        return self.send(json.dumps({"content": "from a tiny model", "completion_probabilities": places}).encode())

    def completion(self, began: float, tokens: int, count: int) -> None:
        swing = self.swing() if self.pace["unsteady"] else 1.0
        first = began + tokens / self.pace["prompts"] / swing
        self.head("text/event-stream")
        for number in range(count):
            time.sleep(max(0.0, first + number / self.pace["generation"] / swing - time.monotonic()))
            self.event({"content": f" {'' if not self.pace['nonsense'] else 'un'}word{number}", "stop": False})
        self.event({"content": "", "stop": True, "timings": self.timings(tokens, count)})
        self.chunk(b"")

    def swing(self) -> float:
        """How many times as fast as its pace this answer is: a round has two that are timed."""
        assert isinstance(self.server, Server)
        round_, second = divmod(self.server.streamed, 2)
        self.server.streamed += 1
        if not second:
            self.server.swing = math.exp(random.uniform(-0.35, 0.35)) if round_ % 2 else 1 / self.server.swing
        return self.server.swing

    def timings(self, tokens: int, count: int) -> dict[str, float]:
        named = (("prompt", "prompts"), ("predicted", "generation"))
        speeds = {f"{each}_per_second": self.pace[of] * self.pace["claims"] for each, of in named}
        return {"prompt_n": tokens, "predicted_n": count, **speeds}

    def chat(self, asked: dict[str, Any]) -> None:
        if asked.get("stream"):
            self.head("text/event-stream")
            for word in ("The", " sea"):
                self.event({"choices": [{"delta": {"content": word}}]})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
            return
        message: dict[str, Any] = {"content": json.dumps({"ready": True, "colour": "red"})}
        if asked.get("tools") and not self.pace["no_tools"]:
            message = {"tool_calls": [{"function": {"name": "weather", "arguments": json.dumps({"city": "Paris"})}}]}
        self.send(json.dumps({"choices": [{"message": message}]}).encode())

    def send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def head(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, content: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(content).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def main() -> None:
    Handler.pace = PACE | json.loads(os.environ.get("PACE") or Path(__file__).with_name("pace.json").read_text())
    if Handler.pace["starts"] == "ends":
        sys.exit("error: this build cannot load its back end")
    while Handler.pace["starts"] == "hangs":
        time.sleep(1)
    if Handler.pace["lives_s"]:
        threading.Timer(Handler.pace["lives_s"], crashes).start()
    Server(option("--host"), Handler).serve_forever()


PROGRAM = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char script[] = "@SCRIPT";
int main(int count, char **word) {
  if (!strcmp(word[count - 1], "--version")) return fputs("version: paced\\n", stderr) < 0;
  if (!strcmp(word[count - 1], "--list-devices")) return puts("Available devices:") < 0;
  char **call = calloc(count + 3, sizeof *call);
  call[0] = word[0];
  call[1] = "-Ic"; /* what reads its command line takes -c for the context */
  call[2] = script;
  for (int at = 1; at < count; at++) call[at + 2] = word[at];
  setenv("PACE", "@PACE", 1);
  execv("/usr/bin/python3", call);
  return 127;
}
"""

CMAKE = """cmake_minimum_required(VERSION 3.18)
project(paced C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server server.c)
add_executable(llama-bench server.c)
"""


def tree(root: Path, **pace: Any) -> None:
    """A llama.cpp at `root`, called `paced`, whose llama-server is this. It is built in a second; hosts need python3."""
    (root / "include").mkdir(parents=True, exist_ok=True)
    (root / "include" / "llama.h").write_text("")
    (root / "CMakeLists.txt").write_text(CMAKE)
    program = PROGRAM.replace("@PACE", _literal(json.dumps(pace))).replace("@SCRIPT", _literal(Path(__file__).read_text()))
    (root / "server.c").write_text(program)


def _literal(text: str) -> str:
    """Between the quotes of a C string."""
    return "".join(chr(each) if each < 128 and chr(each).isalnum() else f"\\{each:03o}" for each in text.encode())


if __name__ == "__main__":
    main()
