"""The pi coding agent itself, from npm: installed once, put on a lab host, and talked to as its own frontends do.

~/.cache/paddock/pi/<version>/node_modules
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import IO, Any

from lab.hosts import ssh_command
from tests import npm
from tests.lab_fleet import LabFleet

VERSIONS = {"0.74.2": "20", "0.87.1": "22"}
"""Of pi, each with the Node.js whose types go with it: the last that runs with Node.js 20, and one that needs 22."""

PACKAGE = "@earendil-works/pi-coding-agent"
THERE = "/opt/pi"
"""Where a lab host has `node`, and each version in a directory."""


def installed(version: str) -> Path:
    """pi's node_modules, and TypeScript's."""
    return npm.installed(npm.CACHE / "pi" / version, f"{PACKAGE}@{version}", "typescript@5", f"@types/node@{VERSIONS[version]}")


def complaints(version: str, extension: Path, work: Path) -> str:
    """What TypeScript has to say of an extension, checked strictly against pi's own types. `work` is a directory that is empty."""
    shutil.copytree(extension, work / "extension")
    (work / "node_modules").symlink_to(installed(version))
    options = {
        **{"strict": True, "noEmit": True, "noUnusedLocals": True, "noUnusedParameters": True, "noImplicitReturns": True},
        **{"target": "es2023", "module": "preserve", "moduleResolution": "bundler", "allowImportingTsExtensions": True},
        **{"skipLibCheck": True, "types": ["node"]},
    }
    (work / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["extension/*.ts"]}))
    done = subprocess.run([npm.node(), work / "node_modules/typescript/bin/tsc", "-p", work], capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


def put(fleet: LabFleet, host: str) -> None:
    """Node.js and every version onto a lab host."""
    fleet.on(host, f"mkdir -p {THERE}")
    kept = ((installed(each).parent, ["."], f"{THERE}/{each}") for each in VERSIONS)
    for origin, names, where in ((npm.node().parent, ["node"], THERE), *kept):
        unpack = f"mkdir -p {where} && tar -xf - --no-same-owner -C {where}"
        with subprocess.Popen(["tar", "-C", origin, "-cf", "-", *names], stdout=subprocess.PIPE) as packed:
            subprocess.run([*ssh_command(fleet.host(host)), unpack], stdin=packed.stdout, check=True, timeout=300)
        assert packed.returncode == 0


@dataclass(frozen=True)
class Pi:
    """pi of one version as an account of a lab host has it."""

    fleet: LabFleet
    host: str
    account: str
    version: str

    def command(self, *arguments: str, **variables: str) -> list[str]:
        """The command line on this machine. HOME and PATH are all that pi sees beside `variables`."""
        home = f"/home/{self.account}"
        own = {"HOME": home, "PATH": "/usr/bin:/bin", "PI_OFFLINE": "1", **variables}
        program = [f"{THERE}/node", f"{THERE}/{self.version}/node_modules/{PACKAGE}/dist/cli.js", "--offline", "--no-session"]
        words = [
            "runuser",
            "-u",
            self.account,
            "--",
            "env",
            "-i",
            *(f"{name}={value}" for name, value in own.items()),
            *program,
            *arguments,
        ]
        return [*ssh_command(self.fleet.host(self.host)), f"cd {home} && {' '.join(quote(each) for each in words)}"]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, **variables)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)

    @contextmanager
    def at_work(self, **variables: str) -> Iterator[Frontend]:
        """pi with somebody before it, over its RPC mode."""
        command = self.command("--mode", "rpc", **variables)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin and process.stdout
            yield Frontend(process.stdin, process.stdout)
            process.stdin.close()
            process.wait(60)


@dataclass
class Said:
    """What a command said and asked, in its order; `footer` is what pi's footer showed meanwhile."""

    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    footer: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


@dataclass
class Frontend:
    """Answers pi as its RPC documentation says (docs/rpc.md in its package)."""

    stdin: IO[str]
    stdout: IO[str]

    def ask(self, kind: str, *, confirm: bool = True, **fields: Any) -> tuple[dict[str, Any], Said]:
        """The response to a request, and what came before it. Who is asked for confirmation says `confirm`."""
        self._send({"type": kind, "id": "one", **fields})
        said = Said()
        for line in self.stdout:
            event = json.loads(line)
            match event:
                case {"type": "response", "id": "one"}:
                    return event, said
                case {"type": "extension_ui_request", "method": "confirm", "title": title, "message": message, "id": which}:
                    said.asked.append(f"{title} {message}")
                    self._send({"type": "extension_ui_response", "id": which, "confirmed": confirm})
                case {"type": "extension_ui_request", "method": "notify", "message": message}:
                    said.told.append(message)
                    said.kinds.append(event.get("notifyType", "info"))
                case {"type": "extension_ui_request", "method": "setStatus", "statusText": text}:
                    said.footer.append(text)
        raise AssertionError(f"pi has ended; it said {said}")

    def type(self, command: str, *, confirm: bool = True) -> Said:
        """What somebody who types it is told."""
        answer, said = self.ask("prompt", confirm=confirm, message=command)
        assert answer["success"], answer
        return said

    def _send(self, message: dict[str, Any]) -> None:
        self.stdin.write(json.dumps(message) + "\n")
        self.stdin.flush()
