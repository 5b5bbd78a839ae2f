"""What others make of the reverse proxy's settings: the probe of a host's version, the lab, the certificates, the line to chat with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from small_fleet import Small

from cli.views.chat_line import chat_line
from control.pki.leaves import subjects_of
from facts.hardware import CADDY_SH, IDENTITY_SH, HardwareFact
from inventory.fleet import Fleet
from lab.lab_host import LabHost
from lab.overlay import overlay
from roles.caddy.settings import Acme, CaddySettings, Site
from roles.server import Entrance

ACME = {"email": "me@home.example"}

INSTALLED = """Package: caddy
Status: install ok installed
Section: net
Version: 2.6.2-12
Description: a server
 Version: 9

Package: other
Status: install ok installed
Version: 1.0
"""

POLICY = """caddy:
  Installed: (none)
  Candidate: {}
  Version table:
     2.11.4-1 500
"""


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Status: install ok installed\nVersion: 2.6.2-12+deb13u1", "2.6.2-12+deb13u1"),
        (POLICY.format("2.11.3"), "2.11.3"),
        (POLICY.format("(none)"), ""),
        ("", ""),
    ],
)
def test_the_version_is_the_installed_one_or_else_what_apt_would_install(said: str, version: str) -> None:
    assert HardwareFact().process(["#caddy", *said.splitlines(), "#nvcc"]).caddy == version


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (INSTALLED, "Status: install ok installed\nVersion: 2.6.2-12\n"),
        (INSTALLED.replace("install ok installed\nSection", "deinstall ok config-files\nSection"), ""),
        (INSTALLED.replace("caddy", "caddyshack"), ""),
    ],
)
def test_dpkgs_own_file_says_what_is_installed(tmp_path: Path, status: str, said: str) -> None:
    (tmp_path / "status").write_text(status)
    script = f"{CADDY_SH} | grep -A 1 ' installed$'".replace("/var/lib/dpkg/status", str(tmp_path / "status"))
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == said


def test_another_version_makes_the_machine_another(tmp_path: Path) -> None:
    def identity() -> str:
        script = IDENTITY_SH.replace("/var/lib/dpkg/info", str(tmp_path))
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout

    absent, listed = identity(), tmp_path / "caddy.list"
    listed.write_text("/usr/bin/caddy\n")
    os.utime(listed, (1_700_000_000, 1_700_000_000))
    installed = identity()
    assert absent != installed == identity()
    os.utime(listed, (1_800_000_000, 1_800_000_000))  # dpkg writes it anew with every version
    assert identity() not in (absent, installed)


@pytest.fixture
def lab(small: Small) -> tuple[Fleet, str]:
    caddy = small.roles["door"]["caddy"]
    caddy["listen"] = ["192.0.2.11:443", "[2001:db8::11]:443"]
    caddy["sites"] = {
        "ai.home.example": {"upstream": "ai", "acme": ACME},
        "ai.example.org": {"upstream": "ai", "acme": ACME},
        "own.example.org": {"upstream": "ai", "acme": {**ACME, "root": "acme.pem"}},
    }
    hosts = {
        name: LabHost("home", name, f"paddock-home-{name}", "running", "root", Path("key"), address="198.51.100.7") for name in small.roles
    }
    fleet, told = overlay(small.fleet, hosts)
    return fleet, "\n".join(told)


def test_in_a_lab_no_public_authority_is_asked_for_a_certificate(lab: tuple[Fleet, str]) -> None:
    fleet, told = lab
    settings = fleet.role("door", "caddy", CaddySettings)
    assert settings
    assert {name: bool(site.acme) for name, site in settings.sites.items()} == {"ai.home.example": False, "own.example.org": True}
    assert "door: the certificate of ai.home.example is the fleet's own, in place of a public authority's." in told
    assert "door: ai.example.org is left out: only a public authority could sign for it." in told


def test_in_a_lab_it_listens_where_the_lab_host_is(lab: tuple[Fleet, str]) -> None:
    fleet, told = lab
    settings = fleet.role("door", "caddy", CaddySettings)
    assert settings and settings.listen == ("198.51.100.7:443",)
    assert "door: caddy.listen is 198.51.100.7:443 in place of 192.0.2.11:443, [2001:db8::11]:443." in told


def test_the_fleet_issues_no_certificate_for_a_site_over_acme(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"]["ai.example.org"] = {"upstream": "ai", "acme": ACME}
    assert [each.name for each in subjects_of(small.fleet) if each.kind == "server"] == ["ai.home.example", "one.home.example"]


@pytest.mark.parametrize(("acme", "trusted"), [(None, "--cacert /c/ca.pem "), ({}, ""), ({"root": "acme.pem"}, "--cacert acme.pem ")])
def test_the_line_to_chat_with_trusts_who_signs_for_the_site(small: Small, acme: dict[str, str] | None, trusted: str) -> None:
    given = Acme.model_validate({**ACME, **acme}) if acme is not None else None
    site = Site(upstream="ai", acme=given)
    entrance = Entrance("ai.home.example", "door", "192.0.2.11", 443, site, ("laptop",))
    line = chat_line(entrance, small.fleet.servers("ai")[0], Path("/c"), small.fleet)
    assert f" {trusted}--cert /c/cert.pem" in line
    assert line.count("--cacert") == bool(trusted)
