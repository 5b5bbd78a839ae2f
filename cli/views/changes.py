"""How changes look on a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cli.views.colour import coloured
from cli.views.table import table
from resources import File, ModelFile, Release, Releases, Resource, Service, Venv, lines_of

if TYPE_CHECKING:
    from control.deployment.work import Work
    from resources.drift import Change

DOING = {"put": "starts", "restart": "restarts", "reload": "reloads"}


def lines(work: Work, told: set[str] | None = None) -> Iterator[str]:
    """A line a resource, and for a file that may be shown a unified diff below it. Why a release is so is not said where it was `told`."""
    told = set() if told is None else told
    for change in work.shown:
        yield coloured(f"  {change.sign} {change.id}{_detail(change, work)}", change.sign)
        yield from (f"      {line}" for line in _diff(change))
        if change.resource and change.sign == "~" and (advice := change.resource.advice(change.attributes)):
            yield f"      {advice}"
        if isinstance(change.resource, Release):
            lies = change.resource.lies_on(work.actual.resources.get(change.id, {}))
            yield from (f"      {line}" for line in reasons(change.resource, told, lies=lies))
    for name in work.drift.left:
        verb = "models prune" if name.startswith("model:") else "teardown --data"
        yield f"    {name} stays although nothing names it (`paddock {verb}` takes it away)"
    for name in work.drift.unknown:
        yield f"    {name} stays: another version of Paddock put it there, and this one does not know its kind"
    if work.drift and not work.shown:
        yield coloured("  ~ what a run that died has left" if work.actual.rest else "  ~ the list of what Paddock put there", "~")


def reasons(release: Release, told: set[str], *, lies: bool = False) -> Iterator[str]:
    """What a release is built for, and why each of its options was chosen; of one that was `told`, that it was. Where it `lies` on the host
    already, nobody builds it."""
    if not release.options:
        yield "nothing is known of the machine yet"
        return
    yield f"{release.name}: {release.profile}, {'already there' if lies else _origin(release)}" + (
        ", as above" if release.name in told else ""
    )
    if release.name in told:
        return
    told.add(release.name)
    options = dict(release.options)
    yield from lines_of(table([(name, options.get(name, ""), why) for name, why in release.reasons]))


def _origin(release: Release) -> str:
    """Where a host that lacks the release gets it from."""
    if release.made == "archived":
        return "from the fleet's artifacts"
    builds = f"{'unpacked' if release.downloads else 'built'} by {release.builder}" if release.builder else ""
    if release.made == "recorded":
        return "from a host that has it" + (f", else {builds}" if builds else "")
    return builds or "from the fleet's artifacts"


def _detail(change: Change, work: Work) -> str:
    if isinstance(change.resource, Service):
        return f"  ({_doing(change)})"
    if change.action == "remove":
        return "  (what was there before comes back)" if work.actual.manifest.get(change.id) == "kept" else ""
    if isinstance(change.resource, Releases) and (spare := change.attributes.get("spare")):
        return f"  ({', '.join(spare[0].split())} leave: {change.resource.most} are kept)"
    if change.sign == "+":
        if isinstance(change.resource, Venv):
            return f"  ({change.resource.summary})"
        return "  (secret)" if isinstance(change.resource, File) and change.resource.secret else _held(change.resource, work)
    parts = []
    for name, (actual, desired) in change.attributes.items():
        parts.append(name if name in ("sha256", "size") else f"{name} {actual or 'none'} → {desired or 'none'}")
    return "  " + ", ".join("content" if part == "sha256" else part for part in parts)


def _held(resource: Resource | None, work: Work) -> str:
    """Of a model's file that lies on the host under another name, that one."""
    if not isinstance(resource, ModelFile):
        return ""
    return next((f"  (is there: {path})" for path, sha256 in work.actual.held.items() if sha256 == resource.sha256), "")


def _doing(change: Change) -> str:
    """What happens to a service."""
    if words := DOING.get(change.action):
        cuts = change.resource.cuts if isinstance(change.resource, Service) and change.action == "restart" else ""
        return f"{words}: {cuts}" if cuts else words
    return ", ".join(f"{name} {actual or 'none'} → {desired}" for name, (actual, desired) in change.attributes.items())


def _diff(change: Change) -> Iterator[str]:
    if change.after is None:
        return
    before, after = _lines(change.before or ""), _lines(change.after)
    for line in list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]:
        yield coloured(line, "@" if line.startswith("@@") else line[:1])


def _lines(text: str) -> list[str]:
    """A line ends where the host's programs see its end, not at every character that Unicode has for that."""
    return text.removesuffix("\n").split("\n") if text else []


def as_data(work: Work) -> list[Mapping[str, Any]]:
    """For `--json`. Contents are left out; `plan` without `--json` shows them."""
    return [
        {
            "sign": change.sign,
            "action": change.action,
            "resource": change.id,
            "role": change.role,
            "attributes": change.told,
        }
        for change in work.drift.changes
        if change.action != "keep"
    ]


def state_as_data(work: Work) -> Mapping[str, Any]:
    """What each resource is, for `--json`."""
    found = ((each, work.actual.resources[each.id]) for each in work.resources if each.id in work.actual.resources)
    return {each.id: {name: value for name, value in attributes.items() if name not in each.hidden} for each, attributes in found}
