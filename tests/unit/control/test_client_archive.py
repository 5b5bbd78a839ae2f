"""What a client takes to a machine that Paddock does not manage. That it installs, and takes itself back, is for tests/edge."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from control.pki.certificates import make_ca, new_key, sign
from control.pki.client_archive import client_archive
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Certificate, Knowledge

TOP = "paddock-laptop"


@pytest.fixture
def knowledge(now: datetime) -> Knowledge:
    return Knowledge(ca=make_ca(CA_KEY, "home", "home.example", ("192.0.2.0/24",), now), secrets={"api-key.pea": "sk-the-servers"})


CA_KEY = new_key()


@pytest.fixture
def identity(knowledge: Knowledge, now: datetime) -> Certificate:
    key = new_key()
    return Certificate(sign(knowledge.ca, CA_KEY, "client", key, "laptop", (), (), now, now + timedelta(days=90)), key)


@pytest.fixture
def serving(fleet_of: Callable[..., Fleet]) -> Callable[..., Fleet]:
    """`pea` serves the model `demo` behind as many sites as are named."""

    def build(*sites: str, **settings: Any) -> Fleet:
        roles = {
            "llama_cpp": {},
            "models": {},
            "llama_server": {"models": ["demo"], **settings},
            "caddy": {"sites": {site: {"upstream": "pea"} for site in sites or ("ai.home.example",)}},
        }
        return fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}}, models={"demo": {}})

    return build


def unpacked(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {each.name: each for each in tar.getmembers()}


def read(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = tar.extractfile(f"{TOP}/{name}")
        assert found
        return found.read()


def texts(archive: bytes) -> dict[str, str]:
    names = [name.removeprefix(f"{TOP}/") for name, member in unpacked(archive).items() if member.isfile()]
    return {name: read(archive, name).decode() for name in names if not name.endswith(".p12")}


def test_nobody_but_who_unpacks_it_reads_what_comes_out(serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge) -> None:
    members = unpacked(client_archive("laptop", identity, serving(), knowledge))
    assert all(name == TOP or name.startswith(f"{TOP}/") for name in members)
    assert {member.mode & 0o077 for member in members.values()} == {0}


def test_the_certificate_comes_under_the_three_names_of_pi(
    serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge
) -> None:
    archive = client_archive("laptop", identity, serving(), knowledge)
    found = [read(archive, f"files/certs/{name}").decode() for name in ("root-ca.pem", "client.pem", "client-key.pem")]
    assert found == [knowledge.ca, identity.chain, identity.key]


@pytest.mark.parametrize("name", ["client.p12", "client-legacy.p12"])
def test_the_sealed_file_opens_with_the_password_on_the_page(
    serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge, name: str
) -> None:
    archive = client_archive("laptop", identity, serving(), knowledge)
    (password,) = re.findall(r"Its password:</p>\n<pre>(.*)</pre>", texts(archive)["README.html"])
    _, certificate, cas = pkcs12.load_key_and_certificates(read(archive, name), password.encode())
    assert certificate == x509.load_pem_x509_certificate(identity.chain.encode())
    assert cas == x509.load_pem_x509_certificates(knowledge.ca.encode())


def test_nothing_in_it_is_of_a_machine_that_paddock_manages(
    serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge
) -> None:
    installed = {name: text for name, text in texts(client_archive("laptop", identity, serving(), knowledge)).items() if "files/" in name}
    assert {"files/seat.sh", "files/browsers.sh", "files/bridge.caddy", "files/bridge.env"} <= installed.keys()
    assert not [name for name, text in installed.items() if "/etc/paddock" in text]


def test_every_script_is_one(serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge) -> None:
    scripts = {name: text for name, text in texts(client_archive("laptop", identity, serving(), knowledge)).items() if name.endswith(".sh")}
    assert len(scripts) == 4
    for text in scripts.values():
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_the_page_says_where_and_what_for(serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge) -> None:
    page = texts(client_archive("laptop", identity, serving(), knowledge))["README.html"]
    assert '<a href="https://ai.home.example/">https://ai.home.example</a>, with demo' in page
    assert "192.0.2.7 ai.home.example\n" in page


def test_a_key_of_llama_server_comes_along_where_it_asks_for_one(
    serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge
) -> None:
    with_key, without = (texts(client_archive("laptop", identity, serving(api_key=each), knowledge)) for each in (True, False))
    assert with_key["files/bridge-upstream.env"] == "LLAMA_API_KEY=sk-the-servers\n"
    assert "LLAMA_API_KEY" in with_key["README.html"]
    assert "sk-the-servers" not in with_key["README.html"]
    assert "LLAMA_API_KEY" not in "".join(without.values())


def test_of_several_sites_one_is_named(serving: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge) -> None:
    fleet = serving("ai.home.example", "code.home.example")
    with pytest.raises(PaddockError, match=r"laptop is admitted by ai\.home\.example and code\.home\.example: choose one with --site"):
        client_archive("laptop", identity, fleet, knowledge)
    archive = client_archive("laptop", identity, fleet, knowledge, site="code.home.example")
    assert "tls_server_name code.home.example\n" in texts(archive)["files/bridge.caddy"]
    assert "https://ai.home.example/" in texts(archive)["README.html"]


def test_a_client_that_no_site_lets_in_gets_none(fleet_of: Callable[..., Fleet], identity: Certificate, knowledge: Knowledge) -> None:
    with pytest.raises(PaddockError, match="no site of the fleet admits laptop: add it"):
        client_archive("laptop", identity, fleet_of(hosts={}), knowledge)
