"""A llama-server that takes the time that it is told to take: so that a test of speeds measures no machine. It runs on a lab host.

Beside the program, `pace.json` has its speeds in tokens a second, and how it fails: see PACE. A token is four characters of a prompt. Each
token of an answer is sent when its time has come, counted from the question, so that no delay adds up.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
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
    "busy": False,
}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    asked = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pace: dict[str, Any]

    def do_GET(self) -> None:
        slots = [{"id": 0, "id_task": 1, "is_processing": self.pace["busy"]}]
        self.send(json.dumps(slots, separators=(",", ":")).encode() if self.path.startswith("/slots") else b'{"status": "ok"}')

    def do_POST(self) -> None:
        began = time.monotonic()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Server)
        self.server.asked += 1
        if self.server.asked > self.pace["requests"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.path == "/v1/chat/completions":
            return self.chat(asked)
        tokens = -(-len(asked["prompt"]) // 4)
        count = asked.get("n_predict", asked.get("max_tokens", 1))
        if asked.get("stream"):
            return self.completion(began, tokens, count)
        if "n_probs" not in asked:
            time.sleep(tokens / self.pace["prompts"] + count / self.pace["generation"])
            return self.send(json.dumps({"content": "Hello", "timings": self.timings(tokens, count)}).encode())
        at = 1000 if self.pace["nonsense"] else 0
        places = [{"id": at, "top_logprobs": [{"id": at, "logprob": -0.1}, {"id": at + 1, "logprob": -3.0}]}] * count
        return self.send(json.dumps({"content": "Hello", "completion_probabilities": places}).encode())

    def completion(self, began: float, tokens: int, count: int) -> None:
        first = began + tokens / self.pace["prompts"]
        self.head("text/event-stream")
        for number in range(count):
            time.sleep(max(0.0, first + number / self.pace["generation"] - time.monotonic()))
            self.event({"content": f" {'' if not self.pace['nonsense'] else 'un'}word{number}", "stop": False})
        self.event({"content": "", "stop": True, "timings": self.timings(tokens, count)})
        self.chunk(b"")

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


def main() -> None:
    Handler.pace = PACE | json.loads(Path(__file__).with_name("pace.json").read_text())
    if Handler.pace["starts"] == "ends":
        sys.exit("error: this build cannot load its back end")
    while Handler.pace["starts"] == "hangs":
        time.sleep(1)
    Server(sys.argv[sys.argv.index("--host") + 1], Handler).serve_forever()


if __name__ == "__main__":
    main()
