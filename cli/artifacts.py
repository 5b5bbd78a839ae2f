"""List, build, export, import and prune releases of llama.cpp, packed to travel.

examples:
  paddock artifacts list
  paddock artifacts build --limit pi                               on its builder, without a word to the host itself
  paddock artifacts export 0.3.36-1f0c8a2b3c4d -o /media/stick/    to carry it to where nothing is compiled or fetched
  paddock artifacts import /media/stick/0.3.36-1f0c8a2b3c4d.paddock.tar
  paddock artifacts prune                                          those that no host of the inventory is to serve
  paddock artifacts prune 0.3.35-77aa01c2d3e4

They are kept in `.paddock/<fleet>/artifacts/`. A host with `llama_cpp: {builder: false}` is only ever given one of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cli.opening import Opened, action_of, ask_at_terminal, limit_argument, opened
from cli.showing import table
from cli.telling import Telling
from control.artifacts import Artifacts
from inventory.context import Artifact
from inventory.errors import UsageError
from roles.resources import Release

SUFFIX = ".paddock.tar"


def arguments(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="list|build|export|import|prune", required=True)
    every = [action_of(actions, "list", "what there is, what it is for, and which hosts are to serve it", "artifacts list")]
    every[-1].add_argument("--json", action="store_true", help="for programs")
    words = "what is not there yet, for hosts whose hardware is known"
    every.append(action_of(actions, "build", words, "artifacts build\nartifacts build --limit pi"))
    limit_argument(every[-1])
    every.append(action_of(actions, "export", "one as a file that can be carried", "artifacts export 1f0c8a -o /media/stick/"))
    every[-1].add_argument("name", help="as `list` shows it, or the beginning of its fingerprint").completer = _names  # type: ignore[attr-defined]
    every[-1].add_argument("-o", "--output", type=Path, default=Path(), metavar="FILE|DIRECTORY", help="else the current directory")
    words = "a file that was exported elsewhere"
    every.append(action_of(actions, "import", words, "artifacts import /media/stick/0.3.36-1f0c8a2b3c4d.paddock.tar"))
    every[-1].add_argument("file", type=Path)
    words = "remove those that no host is to serve, or those named"
    every.append(action_of(actions, "prune", words, "artifacts prune\nartifacts prune 0.3.35-77aa01c2d3e4"))
    every[-1].add_argument("name", nargs="*").completer = _names  # type: ignore[attr-defined]
    for action in every:
        if action is not every[1]:
            action.add_argument("--lab", action="store_true", help="those of the inventory's lab")


def _names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [each.name for each in Artifacts(opened(parsed_args).state).all() if each.name.startswith(prefix)]


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    artifacts = Artifacts(this.state)
    match options.action:
        case "list":
            _list(this, artifacts, as_json=options.json)
        case "build":
            return _build(this)
        case "export":
            artifact = artifacts.named(options.name)
            target = options.output / f"{artifact.name}{SUFFIX}" if options.output.is_dir() else options.output
            artifacts.export(artifact, target)
            print(target)
        case "import":
            artifact = artifacts.take_in(options.file)
            print(f"{artifact.name}: {artifact.profile}; it runs with glibc {artifact.libc} or later", file=sys.stderr)
            if not _served(this).get(artifact.fingerprint):
                print("no host of this inventory is to serve it, as far as their hardware is known", file=sys.stderr)
        case "prune":
            _prune(this, artifacts, options.name)
    return 0


def _served(this: Opened) -> dict[str, list[str]]:
    """Fingerprint → the hosts that are to serve it."""
    from control.context import context_for

    served: dict[str, list[str]] = {}
    for host, release in context_for(this.fleet, this.state, now=datetime.now(UTC)).releases.items():
        if isinstance(release, Release):
            served.setdefault(release.fingerprint, []).append(host)
    return served


def _list(this: Opened, artifacts: Artifacts, *, as_json: bool) -> None:
    served = _served(this)
    known = artifacts.all()
    if as_json:
        print(json.dumps([{**asdict(each), "hosts": served.get(each.fingerprint, [])} for each in known], indent=1))
    elif known:
        heads = ("artifact", "for", "needs", "MiB", "hosts")
        print(table([heads, *(_row(each, served.get(each.fingerprint, [])) for each in known)]))
    else:
        print("there is none yet: `paddock up` builds what its hosts are to serve, `paddock artifacts build` ahead of it", file=sys.stderr)


def _row(artifact: Artifact, hosts: list[str]) -> tuple[str, ...]:
    size = f"{artifact.size / (1 << 20):.1f}"
    return (artifact.name, artifact.profile, f"{artifact.architecture}, glibc {artifact.libc}", size, ", ".join(hosts) or "-")


def _build(this: Opened) -> int:
    from control.compile import compile_for
    from control.lock import operator_lock

    telling = Telling(to_stderr=False)
    hosts = [host.name for host in this.hosts if (role := host.roles.llama_cpp) and role.serve]  # type: ignore[attr-defined]
    with operator_lock(this.state, "artifacts build"):
        failures = compile_for(hosts, this.fleet, this.state, telling.of, ask_at_terminal)
    telling.failures(failures)
    return 1 if failures else 0


def _prune(this: Opened, artifacts: Artifacts, names: list[str]) -> None:
    served = _served(this)
    if unknown := [host.name for host in this.fleet.hosts_with("llama_cpp") if not names and not this.state.hardware(host.name)]:
        known = "nothing is known of their hardware"
        raise UsageError(f"{', '.join(unknown)}: {known}: `paddock plan` looks at it; or name the artifacts that are to go")
    for each in map(artifacts.named, names) if names else artifacts.all():
        hosts = served.get(each.fingerprint)
        if names or not hosts:
            artifacts.remove(each)
            print(f"{each.name} is gone" + (f": for {', '.join(hosts)} it would be built again" if hosts else ""))
