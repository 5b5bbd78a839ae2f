"""What has a version on a host: llama.cpp, the gateway, PostgreSQL, Caddy; which one runs, and which one is to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from control.deployment.deployment import Deployment
from control.deployment.work import Work
from control.lifecycle.names import CADDY, GATEWAY, LLAMA_CPP, POSTGRES
from resources import Package, Release, Resource, Venv, of_kind

OFFERED = r"""offered() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$(dpkg-query -W -f '${db:Status-Status}=${Version}' "$1" 2>/dev/null | sed -n 's/^installed=//p')" \
    "$(LC_ALL=C apt-cache policy "$1" | sed -n 's/^ *Candidate: //p')" \
    "$(apt-cache madison "$1" | sed -n 's/^[^|]*| *\([^ |]*\) *|.*/\1/p' | tr '\n' ' ')"
}
"""

ASKED = {
    CADDY: "offered caddy",
    # The cluster that serves is of one major version, whatever the metapackage installs beside it.
    POSTGRES: """pg_lsclusters -h | while read -r major _ _ state _; do
  case $state in online*) offered "postgresql-$major" ;; esac
done
printf 'default\\t%s\\n' "$(LC_ALL=C apt-cache depends postgresql | sed -n 's/^ *Depends: postgresql-\\([0-9][0-9]*\\)$/\\1/p' | head -n 1)"
""",
}
"""A shell script that says of the distribution's packages of a component: name, installed version, candidate, all that apt has."""


@dataclass(frozen=True)
class HostUpgrade:
    """One host that is to have another version. Of llama.cpp `before` and `after` are directory names, `0.3.36-1f0c8a2b3c4d`; those of one
    `build` have one canary. `packages` has the versions of the distribution's packages that it is to have."""

    host: str
    component: str
    before: str
    after: str
    build: str
    resources: tuple[Resource, ...] = field(repr=False)
    release: Release | None = field(default=None, repr=False)
    packages: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def serving(self) -> Release:
        """Of llama.cpp, the release that it is to serve."""
        assert self.release
        return self.release


@dataclass(frozen=True)
class Offer:
    """A package as apt has it: `installed` and `candidate` are versions, empty for none; `there` are all that can be fetched, the newest
    first."""

    name: str
    installed: str
    candidate: str
    there: tuple[str, ...]

    @property
    def other(self) -> str:
        """The version that is to be there, where that is another one. A version that no archive has came from a file, and goes with it."""
        if not self.installed or not self.there:
            return ""
        wanted = self.candidate if self.candidate in self.there else self.there[0]
        return wanted if wanted != self.installed else ""


def offers_of(lines: Iterable[str]) -> Iterator[Offer]:
    """Of what OFFERED has printed; what makes no sense is none."""
    for line in lines:
        name, *rest = line.split("\t")
        if len(rest) == 3 and re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name):
            installed, candidate, there = rest
            yield Offer(name, installed, candidate.replace("(none)", ""), tuple(there.split()))


def other_major(lines: Iterable[str]) -> str:
    """Why PostgreSQL's cluster stays of its major version; empty where it is the distribution's."""
    said = [line.split("\t") for line in lines]
    default = next((each[1] for each in said if each[0] == "default" and len(each) == 2), "")
    for each in offers_of("\t".join(line) for line in said):
        major = each.name.rpartition("-")[2]
        if default and major != default and each.installed:
            return (
                f"its cluster is of PostgreSQL {major}, and the distribution's is {default}: Paddock changes no major version: "
                "`paddock backup`, then pg_upgradecluster as Debian's README has it (/usr/share/doc/postgresql-common)"
            )
    return ""


def upgrade_of(deployment: Deployment, host: str, component: str, offers: Iterable[Offer]) -> HostUpgrade | None:
    """None for a host that has what it is to have, or nothing yet: that is for `up`."""
    work = deployment.work[host]
    if component == LLAMA_CPP:
        return _of_release(host, work)
    if component not in work.plan:
        return None
    part = work.plan[component]
    if component == GATEWAY:
        return _of_environment(host, work, of_kind(part, Venv))
    for package in of_kind(part, Package):
        found = work.actual.resources.get(package.id, {}).get("version", "")
        if package.deb:
            changed = found and found != package.version
            return HostUpgrade(host, component, found, package.version, package.version, work.resources) if changed else None
    others = [each for each in offers if each.other]
    if not others:
        return None
    first, packages = others[0], {each.name: each.other for each in others}
    build = f"{component} {first.other}"
    return HostUpgrade(host, component, first.installed, first.other, build, work.resources, packages=packages)


def _of_release(host: str, work: Work) -> HostUpgrade | None:
    for release in of_kind(work.resources, Release):
        current = work.actual.resources.get(release.id, {}).get("current", "")
        if current and current != release.path:
            before = current.rpartition("/")[2]
            return HostUpgrade(host, LLAMA_CPP, before, release.name, release.fingerprint, work.resources, release)
    return None


def _of_environment(host: str, work: Work, environments: Iterable[Venv]) -> HostUpgrade | None:
    for each in environments:
        found = work.actual.resources.get(each.id, {}).get("wheels", "")
        if found and found != each.digest:
            version = each.packages[0].rpartition("==")[2]
            return HostUpgrade(host, GATEWAY, found, f"{version}-{each.digest}", each.digest, work.resources)
    return None
