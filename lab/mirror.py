"""Where lab hosts get their packages: the Debian mirror that this machine's own apt uses, reached the way this machine reaches it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"
"""The suite of a lab host that asks for no other."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

CODENAMES = frozenset(
    ["oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "buster", "bullseye", "bookworm", "trixie", "forky", "duke"],
)
SUFFIXES = ("", "-updates", "-security")
ALONE = ("sid",)
"""Suites without updates and security archive: a fix goes into them like any other package."""

ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)")

CARRIED_OPTION = re.compile(r"Acquire::(?:https?::Proxy(?:::\S+)?|Check-Valid-Until|Check-Date|ForceIPv[46]|Retries) ")
"""What of apt's configuration says how to reach a mirror, and names no file of this machine."""

PROXIES = ("http_proxy", "https_proxy")

LOOPBACK = re.compile(r"(?<=//)(localhost|127\.0\.0\.1)(?=[:/]|$)")


@dataclass(frozen=True)
class AptSource:
    """One suite of a package archive."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def debian(suite: str = SUITE) -> tuple[AptSource, ...]:
    """Debian's own archive, for machines whose sources name no mirror of it."""
    suffixes = SUFFIXES[:1] if suite in ALONE else SUFFIXES
    return tuple(
        AptSource(f"http://deb.debian.org/debian{each if each == '-security' else ''}", suite + each, ("main",)) for each in suffixes
    )


def one_line_sources(text: str) -> Iterator[AptSource]:
    """The `deb` lines of a sources.list."""
    for line in text.splitlines():
        if match := ONE_LINE.match(line.strip()):
            options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
            yield AptSource(match["uri"], match["suite"], tuple(match["components"].split()), options.get("signed-by", ""))


def deb822_sources(text: str) -> Iterator[AptSource]:
    """The enabled binary suites of a *.sources file."""
    for stanza in re.split(r"\n\s*\n", "\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE):
            fields[name.lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", ""))


def debian_sources(sources: Iterable[AptSource], suite: str = SUITE) -> tuple[AptSource, ...]:
    """The suite, with its updates and its security archive, of the same mirrors, where the sources are Debian's; Debian's own archive where
    none is.

    An archive counts as Debian's if it has `main` of one of Debian's releases, answers HTTP, and is signed with Debian's key or by default.
    """
    found: dict[tuple[str, str], AptSource] = {}
    for source in sources:
        release, dash, rest = source.suite.partition("-")
        debians = release in CODENAMES and dash + rest in SUFFIXES and "main" in source.components
        if debians and source.uri.startswith("http") and (not source.signed_by or "debian-archive" in source.signed_by):
            same = suite + dash + rest
            if same == suite or suite not in ALONE:
                found.setdefault((source.uri, same), AptSource(source.uri, same, ("main",)))
    return tuple(found.values()) if any(source.suite == suite for source in found.values()) else debian(suite)


def sources_file(sources: Iterable[AptSource]) -> str:
    """A debian.sources file."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\nComponents: {' '.join(source.components)}\nSigned-By: {KEYRING}\n"
        for source in sources
    )


def apt_options(dump: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The lines of `apt-config dump` that say how to reach a mirror, with the proxies of the environment where apt has none of its own."""
    lines = [line for line in dump.splitlines() if CARRIED_OPTION.match(line)]
    for name, value in proxies(environment).items():
        option = f"Acquire::{name.removesuffix('_proxy')}::Proxy"
        if name in PROXIES and not any(line.startswith(option) for line in lines):
            lines.append(f'{option} "{value}";')
    return tuple(lines)


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment's proxies under their lower-case names; what is near a lab host is reached without."""
    given = {name: environment.get(name) or environment.get(name.upper(), "") for name in (*PROXIES, "no_proxy")}
    found = {name: given[name] for name in PROXIES if given[name]}
    near = [name for name in given["no_proxy"].split(",") if name]
    return {**found, "no_proxy": ",".join(dict.fromkeys([*near, "localhost", "127.0.0.1", "::1", "172.16.0.0/12"]))} if found else {}


def machine_sources(suite: str = SUITE) -> tuple[AptSource, ...]:
    """A lab host's sources, from this machine's /etc/apt."""
    apt = Path("/etc/apt")
    one_line = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    found = [source for path in sorted(apt.glob("sources.list.d/*.sources")) for source in deb822_sources(path.read_text())]
    found += [source for path in one_line if path.exists() for source in one_line_sources(path.read_text())]
    return debian_sources(found, suite)


def machine_apt_options() -> tuple[str, ...]:
    """How this machine reaches its mirrors."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout if shutil.which("apt-config") else ""
    return apt_options(dump, os.environ)


def machine_files(suite: str = SUITE) -> dict[str, str]:
    """The files that give a lab host of the suite this machine's way to packages: by path, with their text."""
    files = {
        "/etc/apt/sources.list.d/debian.sources": sources_file(machine_sources(suite)),
        "/etc/apt/apt.conf.d/90paddock-lab": from_a_container("".join(f"{line}\n" for line in machine_apt_options())),
    }
    if found := proxies(os.environ):
        lines = (f'{name}="{value}"\n{name.upper()}="{value}"\n' for name, value in found.items())
        files["/etc/environment"] = from_a_container("".join(lines))
    for path in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt")):
        files[str(path)] = path.read_text()
    return files


def from_a_container(text: str) -> str:
    """The text with proxies on this machine's loopback named as its containers reach them."""
    return LOOPBACK.sub("host.docker.internal", text)
