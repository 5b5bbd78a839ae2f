"""Shows the presets of this host's llama.cpp router, changes the context of a model in them, and restarts the servers.

    GET  /paddock/admin/preset     the router's presets.ini
    POST /paddock/admin/ctx        {"model": "chat", "size": 8192}
    POST /paddock/admin/restart    {}

It answers the reverse proxy, which knows its key, and says as X-Paddock-Client whose certificate it has seen. A browser presents that
certificate for whatever a page makes it ask: so a change needs the header `X-Paddock-Request: 1`, which no form of a page can send, and
what a page sends is refused.

Its configuration is the JSON file that it is given; where llama-server asks for a key, that is LLAMA_API_KEY. It needs Python 3.10 and
nothing else.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

PREFIX = "/paddock/admin"
CALLS = 16
"""At a time: who comes beyond that is hung up on."""
REQUEST_S = 10
"""For all of a request to arrive."""
BODY_BYTES = 4096
WAIT_S = 30
"""For somebody else's change, or a deployment, to end."""
ANSWER_S = 120
"""For the router to end a model's process."""
HEALTHY_S = 900
"""For servers that were restarted to answer: of a fixed model they read it first."""
LEAST, MOST = 256, 1 << 24
"""Sizes of a context, where the model's file does not say for how much it was made."""

SHORTEST_KEY = 16

CHANGED = "# Changed by"
"""What stands above a changed line of the presets. The unit's drop-in looks for it, too."""


class Refusal(Exception):
    """What the caller is told, with the status of HTTP."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Calls(ThreadingHTTPServer):
    """A thread a call, and no more of them than can be borne."""

    daemon_threads = True

    def __init__(self, address: str, port: int, admin: Admin, key: str) -> None:
        self.admin, self.key, self.room = admin, key.encode(), threading.BoundedSemaphore(CALLS)
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Call)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would look the address up in DNS

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(f"<4>a call broke off: {sys.exc_info()[1]}", flush=True)


class Call(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection carries one, and is closed."""

    server: Calls
    server_version, sys_version = "paddock-admin", ""
    timeout = REQUEST_S

    def handle(self) -> None:
        self.clock = threading.Timer(REQUEST_S, self._hang_up)  # `timeout` is for each read, of which there can be many
        self.clock.daemon = True
        self.clock.start()
        try:
            super().handle()
        finally:
            self.clock.cancel()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        try:
            status, text, kind = 200, *self._done()
        except Refusal as refused:
            self.send_error(refused.status, str(refused))
            return
        except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
            self.send_error(500, f"{type(error).__name__}: {error}")
            return
        self._send(status, text, kind)

    def _done(self) -> tuple[str, str]:
        """The answer, and what kind of text it is."""
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), b"Bearer " + self.server.key):
            raise Refusal(401, "this endpoint answers the fleet's reverse proxy alone")
        if "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "this endpoint answers no page of the web")
        admin, what = self.server.admin, f"{self.command} {self.path.partition('?')[0]}"
        if what == f"GET {PREFIX}/preset":
            return admin.preset(), "text/plain; charset=utf-8"
        if what not in (f"POST {PREFIX}/ctx", f"POST {PREFIX}/restart"):
            raise Refusal(404, f"there are GET {PREFIX}/preset, POST {PREFIX}/ctx and POST {PREFIX}/restart")
        asked = self._body()
        done = admin.ctx(asked, self.client) if what.endswith("/ctx") else admin.restart()
        return json.dumps(done), "application/json"

    def _body(self) -> dict[str, Any]:
        if self.headers.get("X-Paddock-Request") != "1":
            raise Refusal(403, "a change needs the header X-Paddock-Request: 1, which no form of a web page can send")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(415, "a change is asked for with Content-Type: application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or "Transfer-Encoding" in self.headers:
            raise Refusal(411, "a request needs a Content-Length, and comes in one piece")
        if int(length) > BODY_BYTES:
            raise Refusal(413, f"a request has {BODY_BYTES} bytes at most")
        data = self.rfile.read(int(length))
        self.clock.cancel()
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            raise Refusal(400, "the request is no JSON") from None
        if not isinstance(asked, dict):
            raise Refusal(400, "the request is no JSON object")
        return asked

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._send(code, json.dumps({"error": {"message": message or "this is no request"}}), "application/json", message or "")

    def _send(self, status: int, text: str, kind: str, why: str = "") -> None:
        command = self.command if re.fullmatch("[A-Z]{1,8}", self.command or "") else "?"
        path = getattr(self, "path", "").removeprefix(PREFIX)
        what = path if path in ("/preset", "/ctx", "/restart") else "?"
        told = why or ("" if kind.startswith("text") else text)
        print(f"<{6 if status < 500 else 4}>{self.client}: {command} {what}: {status} {told[:500]!r}", flush=True)
        data = text.encode()
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def client(self) -> str:
        """Who asks, as the reverse proxy says; who does not know the key is nobody."""
        headers = getattr(self, "headers", None) or {}
        knows = hmac.compare_digest(headers.get("Authorization", "").encode(), b"Bearer " + self.server.key)
        name = headers.get("X-Paddock-Client", "") if knows else ""
        return name if re.fullmatch(r"[a-z0-9-]{1,63}", name) else "somebody"

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)


@dataclass(frozen=True)
class Server:
    """A llama-server of this host. `account` is whose own service it is, none of the system's."""

    unit: str
    url: str
    models: tuple[str, ...]
    router: bool
    account: str = ""


@dataclass(frozen=True)
class Admin:
    """What may be done. `presets` is the router's file; `api_key` is what llama-server wants to be shown, `notes` where Paddock's are."""

    servers: tuple[Server, ...]
    presets: Path
    api_key: str = field(default="", repr=False)
    notes: Path = Path("/run/paddock")
    busy: threading.Lock = field(default_factory=threading.Lock)

    def preset(self) -> str:
        if not self._router:
            raise Refusal(404, "this host has no router, and so no presets: its servers have one model each")
        return self.presets.read_text(encoding="utf-8")

    def ctx(self, asked: Mapping[str, Any], client: str) -> dict[str, Any]:
        """Another context: on disk at once, and the model's from its next request on."""
        router, model, size = *self._serving(asked.get("model")), asked.get("size")
        if not isinstance(size, int) or isinstance(size, bool):
            raise Refusal(400, "size is a whole number of tokens, such as 8192")
        with self._alone():
            before = self.preset()
            most = trained(option(before, model, ("model",))) or MOST
            if not LEAST <= size <= most:
                raise Refusal(400, f"a context of {model} has {LEAST} to {most} tokens, not {size}")
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            after, was = with_context(before, model, size, f"{CHANGED} {client}, {now}")
            if was != size:
                replace(self.presets, after)
                self._forget_note(router)
                self._read_anew(router, model, size)
        kept = f"The next `paddock up` puts back what the inventory says; `paddock models ctx {model} {size}` keeps it."
        words = f"{model} has that already." if was == size else f"{model} has it from its next request on. {kept}"
        return {"model": model, "ctx-size": size, "was": was, "note": words}

    def restart(self) -> dict[str, Any]:
        """Restarts all servers of this host, and waits until they answer."""
        units = [server.unit for server in self.servers]
        with self._alone() as deployment:
            self._restart(*units)
            deployment.release()
            end = time.monotonic() + HEALTHY_S
            for server in self.servers:
                self._until_healthy(server, end)
        return {"restarted": units}

    @property
    def _router(self) -> Server | None:
        return next((server for server in self.servers if server.router), None)

    def _serving(self, model: object) -> tuple[Server, str]:
        """The router, and the model's name, which it has in its presets."""
        if not isinstance(model, str):
            raise Refusal(400, "model is the name of a model, as GET /models lists it")
        if self._router and model in self._router.models:
            return self._router, model
        if any(model in server.models for server in self.servers):
            words = f"{model} has a server of its own here, with its context on that one's command line"
            raise Refusal(409, f"{words}: `paddock models ctx {model} SIZE` changes it, on the machine that has the inventory")
        known = ", ".join(self._router.models) if self._router else "none"
        raise Refusal(404, f"no model is called {model[:128]!r} here: the router has {known}")

    @contextmanager
    def _alone(self) -> Iterator[Deployment]:
        """No other change, and no deployment, at the same time."""
        if not self.busy.acquire(timeout=WAIT_S):
            raise Refusal(409, "somebody else's change is still under way: try again")
        try:
            deployment = Deployment(self.notes / "lock")
            try:
                yield deployment
            finally:
                deployment.release()
        finally:
            self.busy.release()

    def _read_anew(self, router: Server, model: str, size: int) -> None:
        """The router reads its presets again, which ends the model's process; a llama.cpp that cannot do so is restarted."""
        try:
            listed = json.loads(self._ask(router, "/models?reload=1"))["data"]
        except OSError:
            return  # it does not run: the file is what it starts with
        arguments: list[str] = next((each["status"].get("args", []) for each in listed if each["id"] == model), [])
        if ("--ctx-size", str(size)) not in pairwise(arguments):
            self._restart(router.unit)
            self._until_healthy(router, time.monotonic() + HEALTHY_S)

    def _restart(self, *units: str) -> None:
        done = self._systemctl("restart", *units)
        if done.returncode:
            raise Refusal(500, f"systemd does not restart {' '.join(units)}: {done.stderr.strip()[-500:]}")
        if self._router and CHANGED in self.preset():
            self._forget_note(self._router)

    def _until_healthy(self, server: Server, end: float) -> None:
        while time.monotonic() < end:
            try:
                self._ask(server, "/health")
                return
            except (OSError, Refusal):  # it starts, or reads its model
                shown = self._systemctl("show", "--property=ActiveState", "--property=NRestarts", server.unit).stdout
                if "ActiveState=failed" in shown or re.search(r"NRestarts=([3-9]|\d\d)", shown):
                    raise Refusal(500, f"{server.unit} does not come up: `journalctl -u {server.unit}` on the host says why") from None
            time.sleep(1)
        raise Refusal(500, f"{server.unit} still does not answer after {HEALTHY_S // 60} minutes")

    def _ask(self, server: Server, path: str) -> bytes:
        """Raises OSError where it does not answer, and Refusal where that is no 200."""
        where = urlsplit(server.url)
        connection = HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.api_key}"} if self.api_key else {})
            answer = connection.getresponse()
            text = answer.read()
        except HTTPException as error:
            raise OSError(f"{server.unit}: {type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise Refusal(500, f"{server.unit} answers {answer.status} to {path}: {text[:200].decode(errors='replace')}")
        return text

    def _forget_note(self, router: Server) -> None:
        """The note of what it was started with no longer holds: with it, the next `up` would mend the file, and not restart the router."""
        if router.account:
            directory = f"/run/user/{pwd.getpwnam(router.account).pw_uid}/paddock"
            self._run("rm", "-f", f"{directory}/{router.account}--{router.unit}.started")
        else:
            (self.notes / f"{router.unit}.started").unlink(missing_ok=True)

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("systemctl", *(["--user"] if self.servers[0].account else []), *arguments)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As the account whose servers they are, all of a host the same one's; by way of systemd, for this process can become nobody."""
        if account := self.servers[0].account:
            manager = f"--setenv=XDG_RUNTIME_DIR=/run/user/{pwd.getpwnam(account).pw_uid}"
            command = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", f"--uid={account}", manager, *command)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HEALTHY_S)


class Deployment:
    """The lock that Paddock holds while it changes a host."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    self.release()
                    raise Refusal(409, "a deployment is changing this host: try again when it is done") from None
            time.sleep(0.2)

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


OPTION = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*=\s*(?P<value>[^;#]*)")
CONTEXT = ("ctx-size", "c")


def with_context(text: str, model: str, size: int, note: str) -> tuple[str, int | None]:
    """The presets with another context for a model and a note above it, all else as it was; and the context until then, if one was said."""
    lines = text.split("\n")
    first, last = _section(lines, model)
    options = {at: found["name"] for at in range(first, last) if (found := OPTION.match(lines[at]))}
    said = [at for at, name in options.items() if name in CONTEXT]
    place = said[-1] if said else max(options, default=first - 1) + 1
    gone = {*said, *(at for at in range(first, last) if lines[at].startswith(CHANGED))}
    changed = [note, f"{options[place] if said else CONTEXT[0]} = {size}"]
    kept = [[line for at, line in enumerate(lines) if at not in gone and (at < place) == before] for before in (True, False)]
    was = option(text, model, CONTEXT) or option(text, "*", CONTEXT)
    return "\n".join([*kept[0], *changed, *kept[1]]), int(was) if was.isdecimal() else None


def option(text: str, section: str, names: tuple[str, ...]) -> str:
    """What a section says last under one of an option's names; nothing where it does not."""
    lines = text.split("\n")
    first, last = _section(lines, section)
    options = [found for line in lines[first:last] if (found := OPTION.match(line)) and found["name"] in names]
    return options[-1]["value"].strip() if options else ""


def _section(lines: list[str], name: str) -> tuple[int, int]:
    """The lines of a section below its header: the first, and the one after the last."""
    headers = [at for at, line in enumerate(lines) if line.startswith("[")]
    for header, following in zip(headers, [*headers[1:], len(lines)], strict=True):
        if lines[header].strip() == f"[{name}]":
            return header + 1, following
    raise Refusal(409, f"the presets on this host have no section [{name}] any more: `paddock up` mends them")


def trained(path: str) -> int | None:
    """The context that a model was made for, out of the front of its GGUF; None where it does not stand there, or may not be read."""
    try:
        with Path(path or os.devnull).open("rb") as file:
            front = file.read(4 << 20)
    except OSError:
        return None
    # Behind a key stand four bytes that say what kind its value is, 4 for 32 bits without a sign, and the value, little-endian.
    found = re.search(rb"[a-z0-9_-]+\.context_length\x04\x00\x00\x00(.{4})", front, re.DOTALL)
    return (int.from_bytes(found[1], "little") or None) if found else None


def replace(path: Path, text: str) -> None:
    """By a rename: who reads the file finds the one text or the other, whole, whenever this process ends. Its mode stays."""
    found = path.stat()
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        raise Refusal(409, f"{path} is not root's any more: `paddock up` mends it")
    near = unfinished(path)
    near.unlink(missing_ok=True)
    descriptor = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, found.st_mode & 0o777)
        os.fsync(descriptor)
    near.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def unfinished(path: Path) -> Path:
    return path.with_name(f".paddock-{path.name}")


def main() -> None:
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    key = Path(said["key"]).read_text(encoding="utf-8").strip()
    if len(key) < SHORTEST_KEY:
        sys.exit(f"{said['key']} has no key in it: `paddock up` makes one")
    servers = tuple(Server(**{**each, "models": tuple(each["models"])}) for each in said["servers"])
    admin = Admin(servers, Path(said["presets"]), os.environ.pop("LLAMA_API_KEY", ""))  # what it calls is not to inherit the key
    unfinished(admin.presets).unlink(missing_ok=True)  # of one that was killed
    Calls(said["address"], said["port"], admin, key).serve_forever()


if __name__ == "__main__":
    main()
