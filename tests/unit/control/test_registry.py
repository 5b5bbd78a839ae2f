"""What a registry has an image by: the name as Docker reads it, the token that everybody gets, and what is told where there is none."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from control.fetching.registry import KINDS, digest_of, tagged
from inventory.errors import PaddockError

MANIFEST = b'{"schemaVersion": 2, "manifests": []}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


class Registry(BaseHTTPRequestHandler):
    """As the specification has it: `open/…` is for everybody with a token, `closed/…` for nobody, `page/…` is a web page, `other/…` says
    another digest than it has."""

    def do_GET(self) -> None:
        _, port = self.server.server_address[:2]
        name = self.path.removeprefix("/v2/").partition("/")[0]
        if self.path.startswith("/token"):
            self._says(200, json.dumps({"token": "t0ken"}).encode()) if "open" in self.path else self._says(403)
        elif name != "page" and self.headers.get("Authorization") != "Bearer t0ken":
            realm = f'Bearer realm="http://127.0.0.1:{port}/token",service="here",scope="x"'
            self._says(401, **{"WWW-Authenticate": realm})
        elif self.path.endswith("/lost"):
            self._says(404)
        else:
            kind = "text/html" if name == "page" else KINDS[0]
            said = "sha256:" + "0" * 64 if "lying" in self.path else DIGEST
            self._says(200, MANIFEST, **{"Content-Type": kind, "Docker-Content-Digest": said})

    def _says(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("postgres", "https://registry-1.docker.io/v2/library/postgres/manifests/latest"),
        ("docker.io/library/postgres:17", "https://registry-1.docker.io/v2/library/postgres/manifests/17"),
        ("ghcr.io/berriai/litellm:main-v1.7", "https://ghcr.io/v2/berriai/litellm/manifests/main-v1.7"),
        ("registry.home.example:5000/a/b:1", "https://registry.home.example:5000/v2/a/b/manifests/1"),
        ("localhost:5000/a", "http://localhost:5000/v2/a/manifests/latest"),
    ],
)
def test_a_name_is_read_as_docker_reads_it(reference: str, url: str) -> None:
    assert tagged(reference).url == url


@pytest.mark.parametrize("reference", ["", "https://ghcr.io/a", "Postgres:17", "a/", "a b"])
def test_what_names_no_image_is_refused(reference: str) -> None:
    with pytest.raises(PaddockError, match="names no image"):
        tagged(reference)


def test_everybody_gets_a_token_and_the_digest_is_that_of_the_manifest(registry: str) -> None:
    assert digest_of(f"{registry}/open/image:1") == DIGEST


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("open/image:lost", "has no such image: is the tag right?"),
        ("closed/image:1", "the registry wants a login: pin the digest by hand"),
        ("page/image:1", "is no manifest of an image"),
        ("open/lying:1", "is no manifest of an image"),
    ],
)
def test_why_there_is_no_digest_is_told(registry: str, name: str, words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        digest_of(f"{registry}/{name}")
