"""Browsers on a lab host, driven from here in their own protocols: nothing has to be installed for it, on the host or here."""

from __future__ import annotations

import base64
import json
import select
import socket
import subprocess
import time
from typing import Any, Protocol

from lab.hosts import ssh_command
from tests.lab_fleet import LabFleet

PATIENCE_S = 90
"""How long a browser may take to start, and a page to show something."""

MARIONETTE = 2828

ASKS = "asks which certificate"


class Browser(Protocol):
    def open(self, url: str, within_s: float = PATIENCE_S) -> str:
        """Why the page cannot be shown, as the browser says it, ASKS where it waits for somebody; nothing where it is shown."""

    def find(self, expression: str) -> Any:
        """The value of an expression of JavaScript, once there is one that counts as true."""

    def picture(self) -> bytes:
        """A PNG of what the window shows."""


class Chromium:
    """DevTools' protocol over the pipe that SSH is: a message a line, but with NUL at its end."""

    def __init__(self, fleet: LabFleet, host: str, account: str) -> None:
        options = "--headless --disable-gpu --no-first-run --window-size=1200,800 --remote-debugging-pipe"
        start = f"cd /home/{account}; exec runuser -u {account} -- env HOME=/home/{account} chromium {options} 3<&0 4>&1 >/dev/null 2>&1"
        command = [*ssh_command(fleet.host(host)), start]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.session: dict[str, str] = {}
        self.number, self.unread = 0, b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()  # which ends it
        self.process.wait(PATIENCE_S)

    def open(self, url: str, within_s: float = PATIENCE_S) -> str:
        try:
            return str(self.ask("Page.navigate", within_s, url=url).get("errorText", ""))
        except TimeoutError:
            return ASKS

    def find(self, expression: str) -> Any:
        return _until(lambda: self.ask("Runtime.evaluate", expression=expression)["result"].get("value"), expression)

    def picture(self) -> bytes:
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def ask(self, method: str, within_s: float = PATIENCE_S, **params: Any) -> Any:
        """The answer to a command; what is told of other things meanwhile is left. Raises TimeoutError."""
        assert self.process.stdin
        self.number += 1
        self.process.stdin.write(json.dumps({"id": self.number, "method": method, "params": params, **self.session}).encode() + b"\0")
        deadline = time.monotonic() + within_s
        while (answer := json.loads(self._message(deadline))).get("id") != self.number:
            pass
        assert "result" in answer, answer
        return answer["result"]

    def _message(self, deadline: float) -> bytes:
        assert self.process.stdout
        while b"\0" not in self.unread:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            more = self.process.stdout.read(65536)
            assert more, "Chromium has ended"
            self.unread += more
        message, _, self.unread = self.unread.partition(b"\0")
        return message


class Firefox:
    """Marionette: commands as JSON, with their length before them. It starts with its latest profile, or makes its first."""

    def __init__(self, fleet: LabFleet, host: str, account: str) -> None:
        self.fleet, self.host = fleet, host
        run = f"systemd-run --quiet --collect --unit=firefox --uid={account} -E HOME=/home/{account} firefox-esr --headless --marionette about:blank"
        fleet.on(
            host, f"{run}; for i in $(seq {PATIENCE_S * 5}); do ss -Hltn 'sport = :{MARIONETTE}' | grep -q . && break; sleep 0.2; done"
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ssh, *rest = ssh_command(fleet.host(host))
        self.tunnel = subprocess.Popen(
            [ssh, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{port}:127.0.0.1:{MARIONETTE}", *rest]
        )
        self.connection = _connected(port)
        self.stream = self.connection.makefile("rwb")
        self._message()
        self.ask("WebDriver:NewSession")

    def __enter__(self) -> Firefox:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.tunnel.terminate()
        self.tunnel.wait()
        self.fleet.on(self.host, "systemctl stop firefox")

    def open(self, url: str, within_s: float = PATIENCE_S) -> str:
        self.ask("WebDriver:SetTimeouts", pageLoad=int(within_s * 1000))
        for _ in range(3):
            try:
                self.ask("WebDriver:Navigate", url=url)
            except RuntimeError as error:
                return ASKS if str(error) == "timeout" else str(error)
            shown = str(self.ask("WebDriver:ExecuteScript", script="return document.documentURI", args=[])["value"])
            if shown.startswith(url):
                return ""
            print(f"Firefox shows {shown} instead of {url}")  # it has taken the end of another load, its first page's, for that of this one
        return shown

    def find(self, expression: str) -> Any:
        return _until(lambda: self.ask("WebDriver:ExecuteScript", script=f"return {expression}", args=[])["value"], expression)

    def picture(self) -> bytes:
        return base64.b64decode(self.ask("WebDriver:TakeScreenshot", full=False)["value"])

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command. Raises RuntimeError with the error that Firefox names."""
        data = json.dumps([0, 1, command, arguments]).encode()
        self.stream.write(b"%d:%s" % (len(data), data))
        self.stream.flush()
        _, _, error, result = self._message()
        if error:
            raise RuntimeError(error["error"] if error["error"] != "unknown error" else error["message"])
        return result

    def _message(self) -> Any:
        digits = b""
        while (digit := self.stream.read(1)) != b":":
            assert digit, "Firefox has ended"
            digits += digit
        return json.loads(self.stream.read(int(digits)))


def _until(value: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := value()):
        assert time.monotonic() < deadline, f"the page never has {what}"
        time.sleep(0.3)
    return found


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=2 * PATIENCE_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the way to Firefox does not open"
            time.sleep(0.2)
