"""`paddock artifacts pull --lock` of an inventory that names images by their tags, with a role that has images (tests/serving/crate)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.extended import add_name, extended

MANIFEST = b'{"schemaVersion": 2, "manifests": []}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
INVENTORY = """\
fleet: home
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      docker: {}
      crate:
        crates:
          one: {image: "REGISTRY/crate:1"}  # the first
          two:
            image: "REGISTRY/crate:1" # the same
          # and one that is pinned
          three: {image: "REGISTRY/crate:1@sha256:PINNED"}
"""


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if "/crate/" in self.path else 404)
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        self.send_header("Content-Length", str(len(MANIFEST)))
        self.end_headers()
        self.wfile.write(MANIFEST)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = extended(tmp_path_factory.mktemp("crate") / "product")
    crate = Path(__file__).parents[1] / "serving" / "crate"
    shutil.copytree(crate, made.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(made.root / "roles" / "__init__.py", "ROLES", "crate", before="client")
    return made.root


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Path]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path / "home.yml"
        path.write_text(INVENTORY.replace("REGISTRY", f"127.0.0.1:{server.server_address[1]}").replace("PINNED", "a" * 64))
        yield path
        server.shutdown()


def paddock(product: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cli", *words], cwd=product, capture_output=True, text=True)


def test_a_tag_gets_its_digest_where_it_stands_and_nothing_else_moves(product: Path, inventory: Path) -> None:
    before = inventory.read_text()
    refused = paddock(product, "-i", str(inventory), "check")
    assert refused.returncode == 2
    assert f"{inventory}:10:24: hosts.box.roles.crate.crates.one.image: " in refused.stderr
    assert "is no image with its digest" in refused.stderr and "`paddock artifacts pull --lock`" in refused.stderr
    done = paddock(product, "-i", str(inventory), "artifacts", "pull", "--lock")
    assert done.returncode == 0, done.stderr
    assert inventory.read_text() == before.replace('/crate:1"', f'/crate:1@{DIGEST}"')
    assert f"/crate:1@{DIGEST}\n" in done.stdout
    assert paddock(product, "-i", str(inventory), "check").returncode == 0


def test_an_image_that_the_registry_has_not_changes_nothing(product: Path, inventory: Path) -> None:
    inventory.write_text(inventory.read_text().replace('/crate:1" #', '/box:1" #'))
    before = inventory.read_text()
    done = paddock(product, "-i", str(inventory), "artifacts", "pull", "--lock")
    assert done.returncode == 1 and "has no such image: is the tag right?" in done.stderr
    assert inventory.read_text() == before
