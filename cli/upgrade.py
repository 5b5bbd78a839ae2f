"""Switch the hosts to other versions: of llama.cpp, the gateway, PostgreSQL and Caddy. Tried on a canary, then in waves.

examples:
  paddock upgrade --plan             shows the canary of each build class and the waves; changes nothing
  paddock upgrade                    after a version was changed in the inventory, or the distribution has a newer one
  paddock upgrade --only caddy       nothing else; --only gateway,postgres both
  paddock upgrade --to 0.3.37        writes the version into the inventory first, with its digest
  paddock upgrade --to 1:0.9.0+dfsg-1 --ggml 0.30.0-1
  paddock upgrade --waves 1,25%,100% --max-unavailable 2

Of llama.cpp, on one canary of each build class the new release is measured beside the old one, then switched to and watched. Other programs
have gates of their own. Where a version is worse, no other host is touched. Two hosts that serve the same model are never away at the same
time. With --to, the inventory names the old version again if no host serves the new one in the end.

Exit codes: 0 every host serves the new release, 1 not, 3 with --plan: something is to be upgraded, 4 taken back.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cli.arguments import Opened, limit_argument, limit_of, opened, steal_lock_argument, yes_argument
from cli.asking import ask_at_terminal, confirmed
from cli.views.progress import Progress
from cli.views.upgrade import planned
from control.editing.candidate import read_text
from control.lifecycle.names import COMPONENTS, LLAMA_CPP
from control.lifecycle.waves import DEFAULT, sizes_of
from inventory.errors import UsageError

if TYPE_CHECKING:
    from control.editing.candidate import Candidate
    from control.lifecycle.upgrade import Upgrade


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--to", metavar="VERSION", default="", help="the version to write into the inventory first")
    command.add_argument("--ggml", metavar="VERSION", default="", help="with --to and packages: the version of libggml0")
    only = command.add_argument(
        "--only", metavar="WHAT", default="", help=f"of {', '.join(sorted(COMPONENTS))} these alone, with commas between"
    )
    only.completer = lambda **_: COMPONENTS  # type: ignore[attr-defined]
    command.add_argument("--plan", action="store_true", help="show what would be done, and do nothing")
    command.add_argument(
        "--waves", metavar="SIZES", default=DEFAULT, help=f"hosts that have the release after each wave: {DEFAULT}".replace("%", "%%")
    )
    command.add_argument("--max-unavailable", type=int, default=1, metavar="N", help="hosts that may be away at the same time: 1")
    command.add_argument("--soak", type=int, default=180, metavar="SECONDS", help="how long a canary is watched after its switch: 180")
    command.add_argument("--no-measure", action="store_true", help="do not measure the new release beside the one that serves")
    yes_argument(command)
    steal_lock_argument(command)


def run(options: argparse.Namespace) -> int:
    if options.ggml and not options.to:
        raise UsageError("--ggml goes with --to and the version of the packages")
    if options.max_unavailable < 1:
        raise UsageError("--max-unavailable: at least one host has to be away for its switch")
    if options.soak < 0:
        raise UsageError("--soak: a number of seconds, 0 for none")
    _only(options)
    sizes, this, edit = sizes_of(options.waves), opened(options), None
    if options.to:
        edit = _edit(this, options)
        this = _with(this, edit, options)
    return _upgrade(this, options, sizes, edit)


def _only(options: argparse.Namespace) -> tuple[str, ...]:
    """The components that are asked for, in their order. Raises UsageError for one that there is not."""
    named = {each.strip() for each in options.only.split(",")} if options.only else {LLAMA_CPP} if options.to else {*COMPONENTS}
    if unknown := sorted(named.difference(COMPONENTS)):
        raise UsageError(f"--only {unknown[0]}: there is {', '.join(sorted(COMPONENTS))}")
    if options.to and named != {LLAMA_CPP}:
        raise UsageError("--to is a version of llama.cpp: leave --only out, and write other versions into the inventory")
    return tuple(each for each in COMPONENTS if each in named)


def _edit(this: Opened, options: argparse.Namespace) -> Candidate:
    from control.editing.version import with_version
    from control.fetching.progress import Download
    from control.llama_cpp.lock import pin_of

    return with_version(this.path, this.fleet, options.to, options.ggml, lambda source: pin_of(source, Download()).sha256)


def _with(this: Opened, edit: Candidate, options: argparse.Namespace) -> Opened:
    fleet = edit.fleet
    if this.lab:
        from lab import hosts as lab_hosts
        from lab.overlay import overlay

        fleet, _ = overlay(fleet, {each.name: each for each in lab_hosts.list(fleet.name)})
    return replace(this, fleet=fleet, hosts=tuple(fleet.limited(limit_of(options, fleet, this.path))))


def _upgrade(this: Opened, options: argparse.Namespace, sizes: tuple[str, ...], edit: Candidate | None) -> int:
    from control.deployment.known_options import require_known_options
    from control.deployment.plannable import require_plannable
    from control.lifecycle.recording import recording
    from control.lifecycle.upgrade import Upgrade
    from control.state.lock import operator_lock

    began, progress = time.monotonic(), Progress()
    require_plannable(this.positions, this.fleet, deploys=this.hosts)
    require_known_options(this.positions, this.fleet)

    def accept(question: str) -> bool:
        return not options.yes and confirmed(question, False, "a release that nobody could judge is not taken without a person")

    carried = {role for host in this.hosts for role in host.carried}
    pending, done, code = False, list[str](), 0
    with (
        recording(this.state, "upgrade", progress.error) as record,
        operator_lock(this.state, "upgrade", steals=options.steal_lock) as holder,
    ):
        for component in _only(options):
            if component not in carried:
                continue
            upgrade = Upgrade(
                *(this.fleet, this.state, this.hosts, progress.of, progress.line, progress.error),
                *(ask_at_terminal, accept, record, holder, sizes),
                component=component,
                at_once=options.max_unavailable,
                soak_s=options.soak,
                takes_back=not options.plan,
            )
            code = _carried_out(upgrade, edit, options, progress)
            pending |= bool(upgrade.upgrades)
            done += [f"{name} ({component})" for name in upgrade.done]
            record.failures |= upgrade.failures
            if code not in (0, 3):
                break
    if not pending and not code:
        progress.line("nothing is to be upgraded: each host serves the release that the inventory says")
    elif pending and not options.plan:
        progress.line(f"upgraded: {', '.join(done) or 'no host'}; {time.monotonic() - began:.1f} s")
    return 3 if options.plan and pending and code == 0 else code


def _carried_out(upgrade: Upgrade, edit: Candidate | None, options: argparse.Namespace, progress: Progress) -> int:
    """The exit code of one component's upgrade."""
    with _kept(edit, upgrade, progress) as keep:
        with upgrade.looked():
            code = _asked(upgrade, edit, options, progress)
            if code is not None:
                return code
            keep()
            brought = upgrade.bring()
        if brought and (options.no_measure or upgrade.judge()):
            upgrade.carry_out()
    progress.failures(upgrade.failures)
    return 4 if upgrade.taken_back else 1 if upgrade.failures else 0


def _asked(upgrade: Upgrade, edit: Candidate | None, options: argparse.Namespace, progress: Progress) -> int | None:
    """Shows what would be done, and asks: the exit code where it is not to be done."""
    for line in edit.difference() if edit else ():
        progress.line(line)
    for line in planned(upgrade.upgrades.values(), upgrade.waves):
        progress.line(line)
    progress.failures(upgrade.failures)
    if upgrade.failures:
        progress.error("nothing was changed: leave a host out that cannot be upgraded, with --limit")
        return 1
    if not upgrade.upgrades:
        return 0
    if options.plan:
        return 3
    if not confirmed("Upgrade them?", options.yes, "`paddock upgrade --plan` shows what would be done, --yes does it"):
        progress.error("nothing was changed")
        return 1
    return None


@contextmanager
def _kept(edit: Candidate | None, upgrade: Upgrade, progress: Progress) -> Iterator[Callable[[], None]]:
    """Gives what writes the version into the inventory. It names the one from before again if no host serves the new one in the end."""
    kept: list[Candidate] = []

    def keep() -> None:
        if edit:
            edit.keep()
            kept.append(edit)

    try:
        yield keep
    finally:
        for each in kept if not upgrade.done else ():
            _restore(each, progress)


def _restore(edit: Candidate, progress: Progress) -> None:
    """The inventory as it was, unless somebody has changed it meanwhile."""
    if read_text(edit.path) == edit.text:
        replace(edit, text=edit.before).keep()
        progress.line(f"{edit.path}: names the version from before again")
    else:
        progress.error(f"{edit.path}: was changed meanwhile, so the version that was written stays: edit it by hand")
