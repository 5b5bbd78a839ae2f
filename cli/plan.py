"""Show what `up` would change, as a diff. Read-only.

examples:
  paddock plan
  paddock plan --limit ai
  paddock plan --json
  paddock plan --offline         connects to no host: shows each host's build and why, from its known hardware

`+` is new, `~` differs, `-` left the inventory. Where the memory of a host or of a model is unknown, that is said, and nobody has checked
whether it fits. Works without an identity that decrypts the state: says what it could then not compare.
Exit codes: 0 nothing would change, 1 a host failed or cannot be so, 3 something would change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from cli.arguments import Opened, deep_argument, limit_argument, opened
from cli.views import looking, switches
from cli.views.changes import as_data, lines, reasons
from cli.views.colour import coloured
from cli.views.fit import on_terminal, together
from inventory.errors import PaddockError
from inventory.hardware import python_of
from inventory.knowledge import Knowledge


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    deep_argument(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--offline", action="store_true", help="connect to no host; use the hardware known so far")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.deployment.plannable import require_plannable

    require_plannable(this.positions, this.fleet, deploys=this.hosts)
    if options.offline:
        from control.llama_cpp.options import checked

        checked(this.positions, this.fleet)  # as far as nothing is to be fetched for it
        return _offline(this, as_json=options.json)
    from control.deployment.deployment import Deployment
    from control.deployment.fit import pools_of
    from control.deployment.known_options import require_known_options
    from control.deployment.otherwise import taken_back

    require_known_options(this.positions, this.fleet)
    deployment = Deployment(this.fleet, this.state, this.hosts, ask=lambda question: False, deep=options.deep, looks=True)
    with deployment.connected():
        deployment.survey(fit=True)
    if options.json:
        hosts = {name: as_data(work) for name, work in deployment.work.items()}
        waiting = {name: found for name, work in deployment.work.items() if (found := switches.as_data(work.actual))}
        backwards = {
            name: back for name, work in deployment.work.items() if (back := taken_back(work.plan, work.actual.history, this.fleet.name))
        }
        beside = {
            "strangers": deployment.strangers,
            "not_compared": looking.ids(deployment.work),
            "leases": looking.leases(deployment.work),
            "switches": waiting,
            "rolled_back": backwards,
        }
        print(json.dumps({"hosts": hosts, "failed": dict(deployment.failures), **beside}, indent=1))
    else:
        for issued in deployment.due():
            print(f"  ~ {issued}")
        print(*(f"  {notice}\n" for notice in together(deployment.notices())), sep="", end="")
        knowledge, said = deployment.knowledge(), set[str]()
        for name, work in deployment.work.items():
            print(looking.stranger(name, deployment.strangers[name]) + "\n" if name in deployment.strangers else "", end="")
            print(f"{name}: {back}\n" if (back := taken_back(work.plan, work.actual.history, this.fleet.name)) else "", end="")
            print(looking.lease(name, work.actual.lease), end="")
            print(f"{name}: " + (f"{len(work.shown)} to change" if work.drift else "as declared"))
            print(*(f"{line}\n" for line in switches.switches(work.actual)), sep="", end="")
            print(*lines(work, said), sep="\n", end="\n" if work.drift or work.drift.left or work.drift.unknown else "")
            print(*(f"{line}\n" for line in on_terminal(pools_of(name, this.fleet, knowledge))), sep="", end="")
    if words := looking.not_compared(deployment.vault.unopened, deployment.work.values()):
        print(words, file=sys.stderr)
    for name, why in deployment.failures.items():
        if name in deployment.strangers.keys() - deployment.work.keys():
            print(looking.stranger(name, deployment.strangers[name]), file=sys.stderr)
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if deployment.failures else 3 if any(work.drift for work in deployment.work.values()) or deployment.due() else 0


def _offline(this: Opened, *, as_json: bool) -> int:
    """Of each host the release that it is to serve, what that is built for, and why."""
    from control.deployment.fit import pools_of, refused_and_remarked
    from control.deployment.knowledge import knowledge_for
    from control.deployment.served_releases import served_releases
    from control.state.secrets import Vault

    vault, said = Vault(this.state, looks=True), set[str]()
    knowledge = knowledge_for(this.fleet, this.state, now=datetime.now(UTC), vault=vault)
    found = served_releases(this.fleet, this.hosts, knowledge)
    judged = {host.name: refused_and_remarked(host, this.fleet, knowledge) for host in this.hosts}
    names = {host.name for host in this.hosts}
    unwheeled = {host: str(lacks) for (host, _), lacks in knowledge.wheels.items() if host in names and isinstance(lacks, PaddockError)}
    failed = {**{name: "; ".join(refused) for name, (refused, _) in judged.items() if refused}, **found.failures, **unwheeled}
    if as_json:
        told = {
            name: {"release": each.name, "profile": each.profile, "builder": each.builder, "reasons": dict(each.reasons)}
            for name, each in found.releases.items()
        }
        print(json.dumps({"hosts": told, "failed": failed}, indent=1))
    else:
        for name, release in found.releases.items():
            print(coloured(f"{name}:", "+"))
            print(*(f"  {line}" for line in reasons(release, said)), sep="\n")
            print(*(f"{line}\n" for line in on_terminal(pools_of(name, this.fleet, knowledge))), sep="", end="")
        print(*(f"{line}\n" for host in this.hosts for line in wheel_lines(host.name, knowledge)), sep="", end="")
        remarks = together(line for _, remarked in judged.values() for line in remarked)
        print(*(f"  {line}\n" for line in remarks), sep="", end="")
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def wheel_lines(host: str, knowledge: Knowledge) -> Iterator[str]:
    """The programs that a host runs from wheels, and which of them are still to be fetched."""
    from control.fetching.wheels import missing, program_of

    found = [wheels for (name, _), wheels in knowledge.wheels.items() if name == host and not isinstance(wheels, PaddockError)]
    if found:
        yield coloured(f"{host}:", "+")
    for own, *others in found:
        lacks, machine = missing(others), knowledge.hardware[host]
        size_mib = sum(each.size for each in lacks) / (1 << 20)
        here = f"{len(lacks)} of them are still to be fetched ({size_mib:.1f} MiB)" if lacks else "all of them here"
        yield f"  {program_of([own])} with {len(others)} packages for Python {python_of(machine)} on {machine.architecture}, {here}"
