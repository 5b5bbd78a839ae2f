"""List the artifacts, their profiles, and the hosts that serve them.

examples:
  paddock artifacts list
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from cli.arguments import of_lab, opened
from cli.artifacts.names import lab_argument
from cli.views.table import table
from control.llama_cpp.artifacts import Artifacts
from inventory.knowledge import Artifact


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.served_releases import hosts_by_fingerprint

    this = opened(options)
    artifacts = Artifacts(this.state)
    served, known = hosts_by_fingerprint(this.fleet, this.state), artifacts.all()
    if options.json:
        print(json.dumps([{**asdict(each), "hosts": served.get(each.fingerprint, [])} for each in known], indent=1))
    elif known:
        heads = ("artifact", "for", "needs", "MiB", "hosts")
        print(table([heads, *(_row(each, served.get(each.fingerprint, [])) for each in known)]))
    elif (lab := of_lab(this)) and (there := Artifacts(lab).all()):
        print(f"there are no artifacts, but in the lab there are {len(there)}: `paddock artifacts list --lab`", file=sys.stderr)
    else:
        print("there are no artifacts yet: `paddock artifacts build` or `paddock up` builds them", file=sys.stderr)
    for each in known:
        if each.imported:
            print(f"{each.name}: was imported, {each.imported}", file=sys.stderr)
    for each in artifacts.unsigned():
        print(f"{each.name}: not used, this fleet's key has not signed it: `paddock artifacts prune` removes it", file=sys.stderr)
    return 0


def _row(artifact: Artifact, hosts: list[str]) -> tuple[str, ...]:
    size = f"{artifact.size / (1 << 20):.1f}"
    return (artifact.name, artifact.profile, f"{artifact.architecture}, glibc {artifact.libc}", size, ", ".join(hosts) or "-")
