"""Show what `up` would change, as a diff; changes and issues nothing.

examples:
  paddock plan
  paddock plan --limit ai
  paddock plan --json
  paddock plan --offline         asks no host: which build each is to have and why, as far as its hardware is known

`+` is new, `~` differs, `-` left the inventory. Exit code 0 where nothing would change, 3 where something would.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime

from cli.models_fit import tell_fit
from cli.opening import Opened, limit_argument, opened, require_known_options
from cli.showing import as_data, coloured, lines, reasons, shown
from inventory.errors import PaddockError
from roles.llama_cpp.settings import LlamaCppSettings


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--offline", action="store_true", help="ask no host: go by what is known of their hardware from before")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    if options.offline:
        return _offline(this, as_json=options.json)
    from control.deployment import Deployment

    require_known_options(this)
    deployment = Deployment(this.fleet, this.state, this.hosts, ask=lambda question: False)
    with deployment.connected():
        deployment.survey(fit=True)
    if options.json:
        print(
            json.dumps(
                {"hosts": {name: as_data(work) for name, work in deployment.work.items()}, "failed": dict(deployment.failures)}, indent=1
            )
        )
    else:
        for issued in deployment.due():
            print(f"  ~ {issued}")
        print(*(f"  {notice}\n" for notice in deployment.notices()), sep="", end="")
        context, said = deployment.context(), set[str]()
        for name, work in deployment.work.items():
            print(f"{name}: " + (f"{len(shown(work))} to change" if work.drift else "as declared"))
            print(*lines(work, said), sep="\n", end="\n" if work.drift or work.drift.left else "")
            tell_fit(name, this, context)
    for name, why in deployment.failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if deployment.failures else 3 if any(work.drift for work in deployment.work.values()) or deployment.due() else 0


def _offline(this: Opened, *, as_json: bool) -> int:
    """Of each host the release that it is to serve, what that is built for, and why."""
    from control.context import context_for

    context = context_for(this.fleet, this.state, now=datetime.now(UTC))
    failed = {}
    told, said = {}, set[str]()
    for host in this.hosts:
        found = context.releases.get(host.name)
        if isinstance(found, PaddockError):
            failed[host.name] = str(found)
        elif found:
            told[host.name] = {"release": found.name, "profile": found.profile, "builder": found.builder, "reasons": dict(found.reasons)}
            if not as_json:
                print(coloured(f"{host.name}:", "+"))
                print(*(f"  {line}" for line in reasons(found, said)), sep="\n")
                tell_fit(host.name, this, context)
        elif (llama_cpp := this.fleet.role(host.name, "llama_cpp", LlamaCppSettings)) and llama_cpp.serve:
            failed[host.name] = "nothing is known of its hardware yet: `paddock plan` looks at it, once"
    if as_json:
        print(json.dumps({"hosts": told, "failed": failed}, indent=1))
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if failed else 0
