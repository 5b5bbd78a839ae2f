"""`paddock certs issue`, `renew` and `revoke`: who is let in, changed at once in the inventory, in the state and on the hosts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cli.certs_list import lab_argument
from cli.opening import Opened, action_of, ask_at_terminal, confirmed, inventory_path, opened
from cli.showing import coloured
from cli.telling import Telling
from control.leaves import subjects_of
from control.pki import Authority
from control.secrets import Vault
from inventory.errors import PaddockError, UsageError
from inventory.load import load
from inventory.problems import did_you_mean
from roles.role import LABEL

if TYPE_CHECKING:
    from control.deployment import Deployment
    from control.editing import Edit

LATER = "the hosts know nothing of it yet: `paddock up` tells them"


def add(actions: Any) -> None:
    words = "let a client in: with a certificate, in the inventory, and on the hosts; also one that was revoked"
    issue = action_of(actions, "issue", words, "certs issue phone\ncerts issue ann --days 30 --admin --yes")
    issue.add_argument("name", help="the client's name")
    issue.add_argument("--days", metavar="N", help="how long its certificates are valid, 180 at most; the inventory is changed")
    issue.add_argument("--admin", action="store_true", help="it may also restart servers and change presets; the inventory is changed")
    yes_argument(issue)
    issue.set_defaults(act=_issue)

    words = "give new certificates, also before their time; what a client holds stays good beside the new one until it expires"
    renew = action_of(actions, "renew", words, "certs renew\ncerts renew laptop ai.home.example\ncerts renew --all")
    renew.add_argument("name", nargs="*", help="these clients and sites; else those whose time has come").completer = _holders  # type: ignore[attr-defined]
    renew.add_argument("--all", action="store_true", help="every client and every site")
    renew.set_defaults(act=_renew)

    words = "throw a client out, on every host, with all certificates that it holds; it stays out until `certs issue`"
    revoke = action_of(actions, "revoke", words, "certs revoke phone\ncerts revoke laptop --earlier")
    revoke.add_argument("name", nargs="+", help="the clients").completer = clients  # type: ignore[attr-defined]
    revoke.add_argument("--earlier", action="store_true", help="only certificates from before the last renewal: the new one is fetched")
    revoke.set_defaults(act=_revoke)

    for action in (renew, revoke):  # which ask nothing: for scripts that say it everywhere
        action.add_argument("--yes", "-y", action="store_true", help=argparse.SUPPRESS)
    for action in (issue, renew, revoke):
        push_argument(action)
        lab_argument(action)


def push_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument("--no-push", action="store_true", help="leave the hosts as they are until the next `paddock up`")


def yes_argument(action: argparse.ArgumentParser) -> None:
    action.add_argument("--yes", "-y", action="store_true", help="do not ask")


def require_names(names: Iterable[str]) -> None:
    """Raises UsageError for what no client can be called."""
    for name in names:
        if not re.fullmatch(LABEL, name):
            raise UsageError(f'"{name}" cannot be the name of a client: lower-case letters, digits and inner hyphens, 63 at most')


def clients(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The names of clients, for completion: those of the inventory, and those that hold a certificate."""
    this = opened(parsed_args)
    held = {name for kind, name in Authority(this.state, Vault(this.state)).leaves.names() if kind == "client"}
    return sorted(name for name in held | set(this.fleet.clients) if name.startswith(prefix))


def _holders(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return sorted(each.name for each in subjects_of(load(inventory_path(parsed_args))) if each.name.startswith(prefix))


def _issue(options: argparse.Namespace) -> int:
    from control.lock import operator_lock

    this = opened(options)
    require_names([options.name])
    with operator_lock(this.state, "certs issue"):
        Authority(this.state, Vault(this.state)).require_signing(this.fleet, datetime.now(UTC))  # before the inventory lets anybody in
        said = {"days": options.days, "admin": "true" if options.admin else None}
        entry = {key: value for key, value in said.items() if value is not None}
        if options.name not in this.fleet.clients:
            entry = {"days": "180", **entry}
        reopened = in_inventory(this, {options.name: entry}, options)
        if reopened is None:
            return 1

        def act(authority: Authority, now: datetime) -> Iterable[str]:
            done = authority.admit(reopened.fleet, options.name, now)
            yield done or f"client {options.name}: is let in already (`paddock certs renew {options.name}` gives it a new certificate)"
            if not list(reopened.fleet.entrances(options.name)):
                yield f"no site lets {options.name} in: add it to the `clients` of one"

        code = changed(reopened, act, push=not options.no_push)
    print(f"`paddock certs export {options.name}` writes what it takes away")
    return code


def _renew(options: argparse.Namespace) -> int:
    from control.lock import operator_lock

    this = opened(options)
    if options.all and options.name:
        raise UsageError("--all is every client and every site: leave the names out")
    authority = Authority(this.state, Vault(this.state))
    known = [each.name for each in subjects_of(this.fleet)]
    for name in options.name:
        if name not in known:
            words = f"no client and no site that the fleet signs for is called so in {this.path}"
            raise UsageError(f"{name}: {words}{did_you_mean(name, known)}")
    names = [each for each in known if each not in authority.revoked(this.fleet)] if options.all else options.name

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        lines = authority.renew(this.fleet, names, now) if names else authority.issue(this.fleet, now)
        return lines or ["nothing is due: `paddock certs renew --all` renews everything all the same"]

    with operator_lock(this.state, "certs renew"):
        return changed(this, act, push=not options.no_push)


def _revoke(options: argparse.Namespace) -> int:
    from control.lock import operator_lock

    this = opened(options)
    require_names(options.name)

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        for name in options.name:
            if not authority.leaves.record("client", name).leaves and not authority.leaves.record("client", name).revoked:
                held = [each for kind, each in authority.leaves.names() if kind == "client"]
                raise PaddockError(f"client {name}: has no certificate that could be revoked{did_you_mean(name, held)}")
        for name in options.name:
            if options.earlier:
                gone = authority.revoke_earlier(name)
                yield f"client {name}: " + (
                    f"{', '.join(leaf.serial for leaf in gone)} is let in no more" if gone else "holds no earlier certificate"
                )
            else:
                was_in = authority.revoke(name, now)
                yield f"client {name}: {'revoked' if was_in else 'was revoked already'}, and stays so until `paddock certs issue {name}`"

    with operator_lock(this.state, "certs revoke"):
        return changed(this, act, push=not options.no_push)


def in_inventory(this: Opened, entries: Mapping[str, Mapping[str, str]], options: argparse.Namespace) -> Opened | None:
    """What the inventory is once it says this of these clients. Shows the change and asks; None where the answer is no."""
    from control.editing import Edit, candidate, difference, edited, read_text

    edits: list[Edit] = [Edit(("clients", name, key), value) for name, entry in entries.items() for key, value in entry.items()]
    text = read_text(this.path)
    after = edited(text, edits)
    if after == text:
        return this
    kept = candidate(this.path, after)
    for line in difference(text, after, this.path):
        print(coloured(line, "@" if line.startswith("@@") else line[:1]), flush=True)
    if not confirmed("Write it?", options.yes, "`--yes` writes it into the inventory"):
        print("nothing was changed")
        return None
    kept.keep()
    return opened(options)


def changed(this: Opened, act: Callable[[Authority, datetime], Iterable[str]], *, push: bool) -> int:
    """Changes the state, says what was done, and has the hosts know of it, for the exit code."""
    telling, now = Telling(), datetime.now(UTC)
    for line in act(Authority(this.state, Vault(this.state)), now):
        telling.line(line)
    if not push:
        telling.line(LATER)
        return 0
    try:
        return _pushed(this, telling, now)
    except PaddockError as error:
        telling.error(f"{error}\n{LATER}")
        return 1


def _pushed(this: Opened, telling: Telling, now: datetime) -> int:
    """Brings the roles that lay certificates up to date, and nothing else, on every host that carries one."""
    from control import api_keys
    from control.bearers import bearing
    from control.deployment import Deployment

    hosts = bearing(this.fleet)
    if not hosts:
        telling.line("no host of the fleet carries certificates")
        return 0
    deployment = Deployment(this.fleet, this.state, hosts, telling.of, ask_at_terminal)
    if deployment.due():  # a plan is whole only then
        for line in deployment.authority.issue(this.fleet, now):
            telling.line(line)
        api_keys.issue(this.fleet, Vault(this.state))
    with deployment.connected():
        works = _works(deployment)
        if works:
            deployment.carry_out(works)
            for name in _works(deployment):
                deployment.run.failures.setdefault(name, "still differs after the run: `paddock plan` shows how")
    telling.failures(deployment.failures)
    reached = [name for name in deployment.work if name not in deployment.failures]
    if reached:
        telling.line(f"in force on {', '.join(reached)}")
    if deployment.failures:
        telling.error(f"not on {', '.join(deployment.failures)}: the next `paddock up` does it there")
    return 1 if deployment.failures else 0


def _works(deployment: Deployment) -> dict[str, Any]:
    from control.bearers import certificates_alone

    deployment.survey()
    works = {name: certificates_alone(work) for name, work in deployment.work.items() if name not in deployment.failures}
    return {name: work for name, work in works.items() if work.drift.changes}
