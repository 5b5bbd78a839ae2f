"""What a plan may know beyond the inventory. A plan is a pure function of the fleet and of this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from inventory.model_shape import ModelShape
from inventory.options import Options
from resources import UNOPENED, Release, Wheel
from roles.role import interface_of, port_of, with_address

TO_BE_ISSUED = "<to be issued>"
TO_BE_CHOSEN = (Wheel("<to be chosen>", "", 0),)
TO_BE_READ = {"__main__.py": "# <to be read from the services' package>\n"}


@dataclass(frozen=True)
class Certificate:
    """A leaf, as PEM: `chain` is the leaf alone or with what lies between it and the CA. `key` is empty where nobody needs it, and `mark`
    where it is no host's: see control/pki/leaves.py."""

    chain: str
    key: str = field(default="", repr=False)
    mark: str = ""


@dataclass(frozen=True)
class ModelDigest:
    sha256: str
    size: int


@dataclass(frozen=True)
class Artifact:
    """A release, packed to travel. `key` is the digest of all that went into it but the machine that it was built on."""

    name: str
    """As its directory is called: `0.3.36-1f0c8a2b3c4d`"""
    version: str
    fingerprint: str
    key: str
    profile: str
    """`x86-64 with AVX2, for the CPU`"""
    architecture: str
    distribution: str
    """What it was built for: `debian 12`"""
    libc: str
    """The version of the GNU C library that it needs, at least."""
    libraries: tuple[str, ...]
    """The shared libraries that it does not bring along: `libgomp.so.1`"""
    sha256: str
    """Of the archive."""
    size: int
    manifest: str = ""
    """The sha256 of its list of files, by which a release on a host is known to be this one; empty in what an earlier version wrote."""
    imported: str = ""
    """Who vouches for it where this fleet did not build it: `unsigned`, or `signed by 3f2a90c1…`, the key of another fleet."""
    archived: bool = True
    """Whether the archive is here. The state in git has descriptions alone."""


KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True)
class Knowledge:
    """`hardware` by host, `servers` by site, `clients` by client (who left the inventory is not among them), `models` by model."""

    hardware: Mapping[str, Hardware] = field(default_factory=dict)
    ca: str = TO_BE_ISSUED
    """The certificates of all CAs that are trusted: while one takes over from another, both."""
    host_ca: str = TO_BE_ISSUED
    """The same of those that sign for hosts. A CA that was imported so that clients keep their certificates is none of them."""
    servers: Mapping[str, Certificate] = field(default_factory=dict)
    clients: Mapping[str, Certificate] = field(default_factory=dict)
    earlier: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By client the certificates that it held before, are still valid and are still let in: whoever has not fetched the new one yet."""
    revocations: str = ""
    """Who has been thrown out, as hosts keep it: see control/pki/revocations.py."""
    identities: Mapping[str, Certificate] = field(default_factory=dict, repr=False)
    """Certificate and key of the clients that a host of the fleet keeps, by client."""
    hosts: Mapping[str, Certificate] = field(default_factory=dict, repr=False)
    """Certificate and key of the hosts that show one to each other, by host."""
    earlier_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By host the certificates before the one in use that others still accept."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    roots: Mapping[str, str] = field(default_factory=dict)
    """The root certificates of private ACME authorities, by their path as the inventory has it; what cannot be read is empty."""
    models: Mapping[str, ModelDigest] = field(default_factory=dict)
    releases: Mapping[str, Release | PaddockError] = field(default_factory=dict)
    """The release that each host is to serve, or why there can be none; a host that nothing is known of yet is not among them."""
    shapes: Mapping[str, ModelShape] = field(default_factory=dict)
    """What decides how much memory a model takes, of the models whose header somebody has read."""
    options: Mapping[str, Options] = field(default_factory=dict)
    """What the llama-server of each host takes; a host whose source nobody has seen yet is not among them."""
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """The programs of services/ that a host of the fleet runs: by service, the text of each file by its name."""

    wheels: Mapping[tuple[str, str], tuple[Wheel, ...] | PaddockError] = field(default_factory=dict)
    """By host and program the wheels that it runs from an environment of its own, the program's first, or why there can be none; a
    host that nothing is known of yet is not among them."""

    @cached_property
    def compiled(self) -> Mapping[str, tuple[Release, ...]]:
        """By builder the releases that it compiles, for itself and for others."""
        found: dict[str, list[Release]] = {}
        for release in self.releases.values():
            if isinstance(release, Release):
                found.setdefault(release.builder, []).append(release)
        return {builder: tuple(releases) for builder, releases in found.items()}

    def program(self, service: str) -> Mapping[str, str]:
        """The files of a service, in the order of their names; a placeholder where nobody has read them."""
        return self.services.get(service, TO_BE_READ)

    def wheels_for(self, host: str, program: str) -> tuple[Wheel, ...]:
        """The wheels of a program on a host; a placeholder where nobody knows yet what the host is. Raises PaddockError
        where there can be none."""
        found = self.wheels.get((host, program), TO_BE_CHOSEN)
        if isinstance(found, PaddockError):
            raise found
        return found

    def bound(self, listen: str, host: str, where: str) -> str:
        """`ADDRESS:PORT`: of an interface its first address of IPv4, or else of IPv6. Raises PaddockError where it has none."""
        hardware, name = self.hardware.get(host), interface_of(listen)
        if not name or not hardware:
            return with_address(listen)
        if not (own := hardware.addresses.get(name)):
            have = ", ".join(f"{each} ({' and '.join(addresses)})" for each, addresses in hardware.addresses.items()) or "none"
            raise PaddockError(f"{where}: it has no interface {name} with an address: it has {have}")
        return f"[{own[0]}]:{port_of(listen)}" if ":" in own[0] else f"{own[0]}:{port_of(listen)}"

    def key(self, name: str, least: int = 1) -> str:
        """A secret that one program shows to another in a header; TO_BE_ISSUED where nobody has made it yet, UNOPENED where nobody can
        open it.

        Raises PaddockError for one that no header carries, or that is shorter than `least` characters.
        """
        key = self.secrets.get(name, TO_BE_ISSUED).strip()
        if key not in (TO_BE_ISSUED, UNOPENED) and (not KEY.fullmatch(key) or len(key) < least):
            many = f"{least} or more " if least > 1 else ""
            words = f"is no key: {many}letters, digits and . _ ~ + / = - are what a header carries"
            raise PaddockError(f"the secret {name} {words}: `paddock secrets set {name}`")
        return key
