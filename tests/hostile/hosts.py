"""Hosts that say whatever steers a terminal: SSH servers on loopback, each of which lets everybody in and runs nothing.

    python -m tests.hostile.hosts      prints where they listen and their key, in JSON, and serves until its standard input ends

`babbles` says hostile text to whatever it is asked, `fails` says it and fails, `plays` answers as a host of a fleet would, with such text
wherever an answer has room for it, and forwards to a llama-server that does the same. `others` is another fleet's. `silent` says nothing,
`binary` bytes that are no text, `floods` 10 MB, `halves` the first half of what `plays` says; all of them succeed.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
import threading
import time
from typing import Any

import paramiko

from tests.hostile.text import LINE, LINES

READS = re.compile(r"\bsh( -s)?'?$")
"""Commands that read a script."""

IDENTITY = "0123456789abcdef"
FILE = "/etc/caddy/paddock/sites.caddy"
KINDS = ("babbles", "fails", "plays", "others", "silent", "binary", "floods", "halves")
BINARY = (bytes(range(256)) * 16).decode(errors="surrogateescape")
FLOOD = "#mark x y z\n" * 400_000 + "x" * 5_200_000
HARDWARE = f"""\
#architecture
x86_64
#kernel
6.1.0 {LINE}
#distribution
debian 13
#cores
2
#memory
MemTotal: 16000000 kB
#cpu
model name : {LINE}
flags : sse4_2 {LINE}
#dmi
sys_vendor:{LINE}
product_name:{LINE}
#libc
glibc 2.41
#disk
x 1 1 90000000 1% /opt
#pci.ids
10de:1b87 {LINE}
#pci
0000:01:00.0 0x10de 0x1b87
#identity
{IDENTITY}
"""


def unit(name: str) -> str:
    """What systemd says of a service."""
    said = ("ActiveState", "SubState", "UnitFileState", "FragmentPath", "DropInPaths", "InvocationID", "NeedDaemonReload", "NRestarts")
    return "\n".join([f"Id={name}", "MainPID=7", *(f"{each}={LINE}" for each in said)])


def probed(owner: str) -> str:
    text = base64.b64encode(LINES.encode()).decode()
    return "\n".join(
        [
            "#mark",
            "#mark clock",
            str(int(time.time())),
            "#mark identity",
            IDENTITY,
            "#mark owner",
            *([owner] if owner else []),
            "#mark manifest",
            f"put file:/etc/{LINE}",
            f"kept package:{LINE}",
            "#mark stat",
            f"{FILE}\tf\t{LINE}\troot\t644\t9\t0\t",
            f"/opt/paddock\tl\troot\troot\t777\t1\t0\t{LINE}",
            "#mark sha256",
            f"{'0' * 64}  {FILE}",
            "#mark text",
            f"{FILE}\t{text}",
            "#mark package",
            f"curl\tii\t{LINE}",
            "#mark service",
            *(f"{unit(name)}\n" for name in ("caddy.service", "llama-server.service")),
            "#mark socket",
            f'tcp LISTEN 0 1 0.0.0.0:8080 0.0.0.0:* users:(("{LINE}",pid=7,fd=1))',
            "#mark cgroup",
            f"7\t/system.slice/{LINE}",
            "#mark passwd",
            f"llama-server:x:1:1::{LINE}:/bin/{LINE}",
            "#mark rest",
            LINE,
            "#mark end",
            "",
        ]
    )


def journal() -> str:
    entry = {"__REALTIME_TIMESTAMP": str(int(time.time() * 1e6)), "_SYSTEMD_UNIT": "llama-server.service", "MESSAGE": LINES}
    return f"{json.dumps(entry)}\n{json.dumps({**entry, 'MESSAGE': list(LINES.encode())})}\n"


def plays(command: str, script: str, owner: str = "") -> tuple[str, str, int]:
    asked = f"{command}\n{script}"
    if "#architecture" in asked:
        return HARDWARE, LINES, 0
    if "probe_begin" in asked:
        return probed(owner), LINES, 0
    if "grep -a '^fleet'" in asked:
        return owner and f"{owner}\n", LINES, 0
    if "revoked" in asked:
        return f"client phone 2026-03-01T12:00:01Z\nclient {LINE} 2026-03-01T12:00:01Z\n{LINES}", "", 0
    if "date +%s" in asked and len(script) < 20:
        return f"{int(time.time())}\n", LINES, 0
    if "look() {" in asked:
        return f"unit llama-server active {LINE}\nprocess llama-server 0 1000 0\n", LINES, 0
    if "journalctl" in asked and "systemctl" not in asked and "manager" not in asked:
        return journal(), LINES, 0
    if "#temperature" in asked:
        return f"#fault\n{LINES}#acted\n5 {LINE}\n#disk\n{LINE}\n#names\n{LINE}\n", LINES, 0
    if re.search(r"manager .* (start|stop|restart) ", asked):
        return "done\n", LINES, 0
    return LINES, f"paddock-at: {LINE}\n{LINES}", 1


def answered(kind: str, command: str, script: str) -> tuple[str, str, int]:
    if kind == "babbles":
        return LINES, LINES, 0
    if kind == "fails":
        return LINES, LINES, 1
    if kind in ("silent", "binary", "floods"):
        return {"silent": "", "binary": BINARY, "floods": FLOOD}[kind], "", 0
    if kind == "halves":
        said = plays(command, script)[0]
        return said[: len(said) // 2], "", 0
    return plays(command, script, "fleet other 0123456789abcdef 2026-03-01T12:00:01.000000Z" if kind == "others" else "")


def served(request: str) -> bytes:
    """As a llama-server answers over HTTP."""
    if "/chat/completions" in request:
        events = [{"choices": [{"delta": {"reasoning_content": LINE, "content": f"{LINE} "}}]}, {"error": {"message": LINES}}]
        body = "".join(f"data: {json.dumps(each)}\n\n" for each in events)
    elif "/models " in request or "/models?" in request:
        loaded = {"id": "demo", "status": {"value": "loaded", "args": [LINES]}, "meta": {"n_ctx": 512}, LINES: LINES}
        body = json.dumps({"data": [loaded, {"id": LINES, "status": {"value": LINES}}]})
    elif "/health" in request:
        body = json.dumps({"status": LINES})
    else:
        said = json.dumps({"error": {"message": LINES}}).encode()
        return b"HTTP/1.1 500 %s\r\nContent-Length: %d\r\n\r\n%s" % (LINE.replace("\r", "").encode(), len(said), said)
    return b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: %d\r\n\r\n%s" % (b"\x1b[2J", len(body.encode()), body.encode())


class Host(paramiko.ServerInterface):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Any, destination: tuple[str, int]) -> int:
        threading.Thread(target=self.forward, args=(chanid,), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.run, args=(channel, command.decode(errors="replace")), daemon=True).start()
        return True

    def run(self, channel: paramiko.Channel, command: str) -> None:
        time.sleep(0.05)  # until the other end has heard that it runs: who closes before that has never run it
        try:
            channel.settimeout(2)
            script = b""
            while READS.search(command) and (data := channel.recv(1 << 15)):
                script += data
        except (OSError, EOFError):
            pass
        try:
            out, err, status = answered(self.kind, command, script.decode(errors="replace"))
            channel.sendall_stderr(err.encode() + b"\xff\x9b2J\n")
            channel.sendall(out.encode(errors="surrogateescape"))
            channel.send_exit_status(status)
        except (OSError, EOFError):
            pass
        channel.close()

    def forward(self, chanid: int) -> None:
        channel = self.transport.accept(5)
        while channel and channel.chanid != chanid:  # those of commands come here too
            channel = self.transport.accept(5)
        if channel:
            try:
                channel.settimeout(5)
                request = channel.recv(1 << 15).decode(errors="replace")
                babble = f"HTTP/1.1 200 {LINE}\n{LINES}".encode()
                channel.sendall(served(request) if self.kind == "plays" else babble)
            except (OSError, EOFError):
                pass
            channel.close()

    transport: paramiko.Transport


def serve(listening: socket.socket, kind: str, key: paramiko.PKey) -> None:
    while True:
        connection, _ = listening.accept()
        transport, host = paramiko.Transport(connection), Host(kind)
        host.transport = transport
        transport.add_server_key(key)
        try:
            transport.start_server(threading.Event(), host)
        except (paramiko.SSHException, OSError, EOFError):
            transport.close()


def main() -> None:
    key, where = paramiko.ECDSAKey.generate(), {}
    for number, kind in enumerate(KINDS, 2):
        listening = socket.create_server((f"127.0.0.{number}", 0))
        where[kind] = listening.getsockname()
        threading.Thread(target=serve, args=(listening, kind, key), daemon=True).start()
    print(json.dumps({"where": where, "key": f"{key.get_name()} {key.get_base64()}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
