"""Makes what is not as declared so: packages and users, what left the inventory, then role by role files, and services. A service that left
goes last.

What each kind of resource does to a host stands in resources/; the order in which kinds do it stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyinfra import host

from control.deployment.work import ADMITTING, Turn, Work
from deploys.applying import apply, stage
from deploys.packages import apt_ready, installed, tried, unheld
from deploys.uploads import uploaded, uploads
from deploys.users import made
from resources import ModelFile, Package, User, kind_of, kinds, of_kind
from resources.base import Origin, Phase
from resources.drift import Change, manifest_text
from resources.leaving import AT_ONCE, LAST
from resources.model import room
from resources.owner import MANIFEST, Owner
from resources.steps import Steps

STAYS = "what left the inventory stays until the next `up`: requests may still come from"


def claim(work: Work) -> None:
    """Notes on the host what will be there, before any of it is: a run that dies leaves nothing behind that nobody knows.

    And checks that there is room for it, as far as models go, which is far.
    """
    if work.drift.claims != work.actual.manifest or work.owner != work.actual.owner or work.actual.rest:
        apply(name="manifest", steps=lambda: _manifest(work.drift.claims, work.newest.owner))
    if work.entry:
        begun = Steps()
        work.entry.begin(begun)
        apply(name="history", steps=begun)
    if steps := room(of_kind(work.wrong(ModelFile), ModelFile)):
        apply(name="room for models", steps=steps)
    if not work.plan and work.actual.waiting:
        steps = Steps()
        steps.add("guard_dropped")
        apply(name="guard", steps=steps)


def prepare(work: Work) -> None:
    """Installs packages with their services held back, makes users, takes away what left the inventory and cannot wait.

    The last comes late, so that what still serves misses its old files for as short a time as can be.
    """
    if work.guard and work.kept.packages:
        tried(work.wrong(Package), work)
        armed = Steps()
        work.kept.arm(armed, work.guard)
        apply(name="what can be put back", steps=armed)
    installed(work.wrong(Package), work)
    made(work.wrong(User), work)
    steps = Steps()
    for kind in kinds():
        if kind.phase == "prepare" and kind not in (Package, User):  # which pyinfra's own operations put in place
            for each in work.wrong(kind):
                each.land(steps, work)
    if steps:
        apply(name="preparations", steps=steps)
    if work.actual.rest and not work.wrong(Package):
        apt_ready("packages")
    if not work.guard and (steps := _removals(work, AT_ONCE)):  # what is old may still be put back, and need it
        apply(name="removals", steps=steps)


def converge(role: str, work: Work) -> None:
    """One role's stage: called for every role on every host, whether it carries the role or not."""
    stage(name=role, needs=work.needs.get(role, frozenset()), one_of=work.alternatives.get(role, ()))
    if role not in work.drift.late:
        _land(role, work)


def leave(work: Work) -> None:
    """Takes away what was to stay until the reverse proxies point elsewhere, once they do; then come the roles that guarded it so long."""
    last = Steps() if work.guard else _removals(work, LAST)
    stage(name="removals", needs=work.doors if last else (), words=STAYS)
    if last:
        apply(name="removals", steps=last)
    for role in work.plan:
        if role in work.drift.late:
            _land(role, work)


def _land(role: str, work: Work) -> None:
    if steps := _steps(role, work, "files"):
        apply(name=f"{role}: files", steps=_last_moment(role, work, "files") if role in ADMITTING else steps)
    for large, local in uploads(role, work):
        uploaded(name=large.id, large=large, local=local)
    turn = work.turns.get(role, Turn())
    for number in host.loop(range(turn.of)):
        if turn.of > 1:
            stage(name=f"{role}: turn {number + 1} of {turn.of}")
        if number == turn.number and (steps := _steps(role, work, "services")):
            apply(name=f"{role}: services", steps=_last_moment(role, work, "services") if role in ADMITTING else steps)


def _last_moment(role: str, work: Work, phase: Phase) -> Callable[[], Steps]:
    """Made when they are carried out, hours after the plan perhaps: who is let in may have changed meanwhile. A host that knows of a newer
    change refuses them."""

    def steps() -> Steps:
        newest = work.newest
        return _steps(role, newest, phase, after=newest.owner)

    return steps


def finish(work: Work) -> None:
    """The manifest says what is there now. Where nothing is planned any more, what stays there is nobody's. Where it may be taken back, it
    goes on to say what was there, too."""
    stage(name="done")
    if work.guard:
        return

    def steps() -> Steps:
        newest, made = work.newest, Steps()
        owner = newest.owner if newest.plan else None
        if newest.drift.claims != newest.drift.manifest or (newest.drift.manifest and owner != work.owner):
            made = _manifest(newest.drift.manifest, owner, newest.owner, work.drift.changes)
        if work.actual.rest and not work.drift.partial:
            made.add("gone_kept")
        if not newest.plan:
            made.add("guard_dropped")
            made.add("gone_rest")
        elif work.actual.taken_back and not work.drift.partial:
            made.add("guard_seen")
        return made

    if steps():
        apply(name="manifest", steps=steps)
    ended = Steps()
    if work.entry:
        work.entry.end(ended, confirmed=work.guard is None)
    for kind in kinds():
        kind.at_end(ended, work.drift.changes)
    if ended:
        apply(name="history", steps=ended)


def _manifest(entries: Mapping[str, Origin], owner: Owner | None, known: Owner | None = None, forgotten: Sequence[Change] = ()) -> Steps:
    """`known` is whose the host is while the run lasts, where it is to be nobody's afterwards; among the changes `forgotten` is what the
    manifest has no more."""
    steps = _after(known or owner)
    for kind in kinds():
        kind.before_forgetting(steps, forgotten)
    if entries:
        steps.add("put_file", "put", steps.pack(manifest_text(entries, owner).encode(), mode=0o600), MANIFEST)
    else:
        steps.add("gone_manifest")
    return steps


def _after(owner: Owner | None) -> Steps:
    """Steps that are carried out where the host knows of no later change."""
    steps = Steps()
    if owner:
        steps.add("no_newer", owner.line)
    return steps


def _steps(role: str, work: Work, phase: Phase, *, after: Owner | None = None) -> Steps:
    """What a role's resources of one phase need, kind by kind."""
    steps, changes = _after(after), work.drift.of(role)
    wrong = frozenset(change.id for change in changes if change.attributes)
    if phase == "files":
        for kind in kinds():
            kind.before_landing(steps, wrong, work)
        if not work.guard:
            _remove(steps, work, role)
    stamps = work.stamps(role)  # they land with their services, after everything that they vouch for
    for kind in kinds():
        if kind.phase == phase:
            kind.land_all(steps, [each for each in changes if type(each.resource) is kind and each.id not in stamps], work)
    if phase == "files":
        unheld(steps, work, changes)
    if steps and work.guard and work.is_guarded(role):
        work.kept.arm(steps, work.guard)
    return steps


def _removals(work: Work, when: str) -> Steps:
    steps = Steps()
    _remove(steps, work, when)
    return steps


def _remove(steps: Steps, work: Work, when: str) -> None:
    """Packages go after what lies in their directories, and users after all that ran as them."""
    gone = {name: work.actual.manifest.get(name, "put") for name in work.drift.leaving(when)}
    for each in kinds() if when == LAST and work.doors else ():  # else nobody has been sent elsewhere
        each.before_leaving(steps, gone)
    for name, origin in gone.items():
        if kind := kind_of(name.partition(":")[0]):
            kind.leave(steps, name.partition(":")[2], origin)
    for kind in sorted(kinds(), key=lambda kind: kind.phase == "prepare"):
        kind.after_leaving(steps, gone)
