"""What the people at a host are given: where it lies, who may read it, and what their browsers are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import Small, pem

from inventory.knowledge import TO_BE_ISSUED, Certificate
from lab.lab_host import LabHost, accounts
from lab.overlay import overlay
from resources import Directory, File, OnDisk, Resource, Service
from roles.host_plan import host_plan

POLICY = "/etc/chromium/policies/managed/paddock.json"
ANN = "/etc/paddock/clients/ann"


class Desk:
    """The host `desk`, with accounts of its own, in the small fleet."""

    def __init__(self, small: Small) -> None:
        self.small = small
        self.accounts: dict[str, Any] = {"ann": {"client": "laptop", "browsers": ["chromium", "firefox"]}}
        self.ca = pem("the CA")
        self.identities = {name: Certificate(f"leaf of {name}", f"key of {name}") for name in ("laptop", "phone")}

    @property
    def plan(self) -> dict[str, Resource]:
        self.small.roles["desk"] = {"client": {"accounts": self.accounts}}
        fleet = self.small.fleet
        context = replace(self.small.context, ca=self.ca, identities=self.identities)
        return {each.id: each for part in host_plan(fleet.hosts["desk"], fleet, context).values() for each in part}

    def text(self, path: str) -> str:
        file = self.plan[f"file:{path}"]
        assert isinstance(file, File)
        return file.data.decode()

    def service(self, name: str) -> Service:
        found = self.plan[f"service:{name}.service"]
        assert isinstance(found, Service)
        return found


@pytest.fixture
def desk(small: Small) -> Desk:
    return Desk(small)


def selections(text: str) -> list[tuple[str, str]]:
    return [
        (each["pattern"], each["filter"]["SUBJECT"]["CN"]) for each in map(json.loads, json.loads(text)["AutoSelectCertificateForUrls"])
    ]


def test_nothing_is_put_into_a_home_by_root(desk: Desk) -> None:
    desk.accounts["root"] = {"client": "phone", "browsers": ["brave-flatpak"]}
    paths = [each.path for each in desk.plan.values() if isinstance(each, OnDisk)]
    assert not [path for path in paths if path.startswith(("/home", "/root"))]


def test_what_is_an_accounts_is_roots_to_write_and_the_accounts_to_read_and_nobody_elses(desk: Desk) -> None:
    for each in desk.plan.values():
        if isinstance(each, (Directory, File)) and each.path.startswith(ANN):
            assert (each.owner, each.group) == ("root", "ann"), each
            assert not each.mode & 0o027, each


def test_the_key_is_a_secret(desk: Desk) -> None:
    key = desk.plan[f"file:{ANN}/certs/client-key.pem"]
    assert isinstance(key, File)
    assert key.secret
    assert all("key of laptop" not in each.data.decode() for each in desk.plan.values() if isinstance(each, File) and each != key)


@pytest.mark.parametrize("unit", ["paddock-seat-ann", "paddock-browsers-ann", "paddock-profiles-ann"])
def test_what_is_done_in_a_home_is_done_by_its_account_which_can_write_nothing_else(desk: Desk, unit: str) -> None:
    lines = desk.text(f"/etc/systemd/system/{unit}.service").splitlines()
    assert {"User=ann", "Group=ann", "ProtectSystem=strict", "ReadWritePaths=-/home/ann", "CapabilityBoundingSet="} <= set(lines)


def test_a_home_elsewhere_is_said_to_scripts_and_units(desk: Desk) -> None:
    desk.accounts["ann"]["home"] = "/data/ann"
    for path in (f"{ANN}/seat.sh", f"{ANN}/browsers.sh"):
        assert "home=/data/ann " in desk.text(path)
    assert "ReadWritePaths=-/data/ann\n" in desk.text("/etc/systemd/system/paddock-seat-ann.service")
    assert "PathChanged=/data/ann/.mozilla/firefox/profiles.ini\n" in desk.text("/etc/systemd/system/paddock-browsers-ann.path")


def test_a_renewed_certificate_is_put_into_databases_and_every_link_stays(desk: Desk) -> None:
    before = {name: desk.service(name).started for name in ("paddock-seat-ann", "paddock-browsers-ann")}
    desk.identities["laptop"] = Certificate("renewed leaf", "renewed key")
    assert desk.service("paddock-seat-ann").started == before["paddock-seat-ann"]
    assert desk.service("paddock-browsers-ann").started != before["paddock-browsers-ann"]


def test_a_browser_presents_the_certificate_at_the_sites_that_let_its_client_in(desk: Desk) -> None:
    sites = {"ai.home.example": {"upstream": "ai", "clients": ["laptop"]}, "other.home.example": {"upstream": "ai", "clients": ["phone"]}}
    desk.small.roles["door"]["caddy"] = {"sites": sites, "listen": "0.0.0.0:8443"}
    assert selections(desk.text(POLICY)) == [("https://ai.home.example:8443", "laptop"), ("https://one.home.example", "laptop")]


def test_the_policy_is_one_for_all_accounts_and_names_each_ones_client(desk: Desk) -> None:
    desk.accounts["bob"] = {"client": "phone", "browsers": ["chromium", "brave"]}
    assert {client for _, client in selections(desk.text(POLICY))} == {"laptop", "phone"}
    assert {client for _, client in selections(desk.text("/etc/brave/policies/managed/paddock.json"))} == {"phone"}


def test_while_one_ca_takes_over_from_another_both_are_trusted(desk: Desk) -> None:
    desk.ca = pem("the CA") + pem("the next")
    bodies = ["".join(pem(each).splitlines()[1:-1]) for each in ("the CA", "the next")]
    assert json.loads(desk.text(POLICY))["CACertificates"] == bodies
    assert [desk.text(f"{ANN}/authorities/{number}.pem") for number in (1, 2)] == [pem("the CA"), pem("the next")]


def test_before_anything_is_issued_there_is_a_plan(desk: Desk) -> None:
    desk.ca, desk.identities = TO_BE_ISSUED, {}
    assert json.loads(desk.text(POLICY))["CACertificates"] == []
    assert desk.text(f"{ANN}/authorities/1.pem") == TO_BE_ISSUED


@pytest.mark.parametrize(
    ("browser", "there", "not_there"),
    [
        ("chromium", "/etc/chromium/policies/managed/paddock.json", "/etc/brave"),
        ("chrome", "/etc/opt/chrome/policies/managed/paddock.json", "/etc/chromium"),
        ("brave", "/etc/brave/policies/managed/paddock.json", "/etc/opt"),
        ("brave-flatpak", "/etc/brave/policies/managed/paddock.json", "/etc/firefox"),
        ("firefox", "/etc/firefox-esr/paddock.js", "/etc/chromium"),
    ],
)
def test_only_the_browsers_that_are_named_are_told(desk: Desk, browser: str, there: str, not_there: str) -> None:
    desk.accounts["ann"]["browsers"] = [browser]
    paths = [each.path for each in desk.plan.values() if isinstance(each, OnDisk)]
    assert there in paths
    assert not [path for path in paths if path.startswith(not_there)]


@pytest.mark.parametrize("path", ["/etc/firefox-esr/paddock.js", "/etc/firefox/defaults/pref/paddock.js"])
def test_firefox_shows_its_certificate_when_it_asks_whether_a_page_may_call_where_a_site_lets_pages_call(desk: Desk, path: str) -> None:
    assert "cors_preflight" not in desk.text(path)
    desk.small.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = ["https://chat.home.example"]
    assert '\npref("network.cors_preflight.allow_client_cert", true);\n' in desk.text(path)
    desk.small.roles["door"]["caddy"]["sites"]["ai.home.example"]["clients"] = ["phone"]
    assert "cors_preflight" not in desk.text(path)


def test_who_names_no_browser_gets_no_tools_and_no_policy(desk: Desk) -> None:
    desk.accounts["ann"]["browsers"] = []
    kinds = {name for name in desk.plan if "browsers" in name or "nss" in name or "policies" in name or "firefox" in name}
    assert kinds == {"package:openssl"}  # which looks at how long the certificate is still good for
    assert desk.service("paddock-seat-ann")


def test_in_a_lab_the_accounts_are_made_and_are_at_home_where_the_lab_has_them(desk: Desk) -> None:
    desk.accounts["ann"]["home"] = "/data/ann"
    desk.small.roles = {"desk": {"client": {"accounts": desk.accounts}}}
    real = desk.small.fleet
    lab = LabHost(
        "home", "desk", "paddock-home-desk", "running", "root", Path("/lab/ssh_key"), "172.17.0.2", "172.17.0.0/16", "ssh-ed25519 AAAA"
    )
    fleet, told = overlay(real, {"desk": lab})
    assert accounts(fleet.hosts["desk"]) == ("ann",)
    assert fleet.hosts["desk"].roles.client.accounts["ann"].home is None
    assert "desk: the home of ann is where the lab has it, in place of /data/ann." in told
