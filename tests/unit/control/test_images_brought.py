"""Images that the control machine fetches for hosts: whole, for a host's platform, each part by its digest."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control.fetching.download import silent
from control.fetching.images import archive_path, image_archive
from control.fetching.registry import KINDS
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from resources import Image

INDEX, MANIFEST = KINDS[0], KINDS[2]


class Shelf:
    """What a registry has, by digest, and what it was asked for."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.port = 0

    def keep(self, content: bytes | dict[str, Any]) -> dict[str, Any]:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"digest": digest, "size": len(data)}

    def manifest(self, architecture: str, **more: Any) -> dict[str, Any]:
        config = self.keep({"architecture": architecture, "os": "linux"})
        layers = [self.keep(gzip.compress(f"{name} of {architecture}".encode(), mtime=0)) for name in ("first", "second")]
        said = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [*layers, layers[0]], **more}
        return {**self.keep(said), "mediaType": MANIFEST, "platform": {"os": "linux", "architecture": architecture}}

    def image(self, *manifests: dict[str, Any]) -> Image:
        """One for several platforms, as the registry of this test has it."""
        index = self.keep({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)})
        return Image(f"127.0.0.1:{self.port}/shelf/page:1@{index['digest']}", brought=True)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    kept = Shelf()

    class Registry(BaseHTTPRequestHandler):
        """As the specification has it, for everybody with a token."""

        def do_GET(self) -> None:
            kept.asked.append(self.path)
            digest = self.path.rpartition("/")[2]
            if self.path.startswith("/token"):
                self._says(200, json.dumps({"token": "t0ken"}).encode())
            elif self.headers.get("Authorization") != "Bearer t0ken":
                self._says(401, **{"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{kept.port}/token",service="here",scope="x"'})
            elif digest in kept.blobs:
                self._says(200, kept.blobs[digest])
            else:
                self._says(404)

        def _says(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        kept.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield kept
        server.shutdown()


@pytest.fixture
def state(tmp_path: Path) -> FleetState:
    return FleetState.of(tmp_path / "fleet.yml", "home")


def inside(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {each.name: file.read() for each in tar if (file := tar.extractfile(each))}


def test_an_image_is_fetched_for_the_hosts_platform_as_docker_load_takes_it(shelf: Shelf, state: FleetState) -> None:
    image = shelf.image(shelf.manifest("amd64"), shelf.manifest("arm64"))
    found = inside(image_archive(state, image, "aarch64", silent))
    (saved,) = json.loads(found["manifest.json"])
    assert json.loads(found[saved["Config"]])["architecture"] == "arm64"
    assert [gzip.decompress(found[each]) for each in saved["Layers"]] == [b"first of arm64", b"second of arm64", b"first of arm64"]
    assert saved["RepoTags"] == [image.name] == [f"127.0.0.1:{shelf.port}/shelf/page:paddock-{image.reference[-64:-52]}"]
    (described,) = json.loads(found["index.json"])["manifests"]
    assert f"blobs/{described['digest'].replace(':', '/')}" in found
    assert described["annotations"]["io.containerd.image.name"] == image.name


def test_one_that_is_here_is_not_fetched_again(shelf: Shelf, state: FleetState) -> None:
    image = shelf.image(shelf.manifest("amd64"))
    first = image_archive(state, image, "x86_64", silent)
    before = first.read_bytes()
    shelf.asked.clear()
    assert image_archive(state, image, "x86_64", silent) == first
    assert shelf.asked == [] and first.stat().st_mode & 0o077 == 0
    first.unlink()
    assert image_archive(state, image, "x86_64", silent).read_bytes() == before, "a host could not go on with what came of it"


def test_one_manifest_for_all_platforms_is_taken_as_it_is(shelf: Shelf, state: FleetState) -> None:
    alone = shelf.manifest("amd64")
    image = Image(f"127.0.0.1:{shelf.port}/shelf/page:1@{alone['digest']}", brought=True)
    assert image_archive(state, image, "x86_64", silent) == archive_path(state, image, "x86_64")


def test_a_platform_that_it_does_not_have_is_told_with_those_that_it_has(shelf: Shelf, state: FleetState) -> None:
    with pytest.raises(PaddockError, match=r"has no image for arm64/v8, only for amd64"):
        image_archive(state, shelf.image(shelf.manifest("amd64")), "aarch64", silent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "was cut off after"),
        (lambda data: data + b"x", "is something else"),
        (lambda data: b"x" + data[1:], "is something else"),
    ],
)
def test_a_layer_that_is_not_what_its_manifest_says_is_refused_and_nothing_of_it_stays(
    shelf: Shelf, state: FleetState, change: Any, words: str
) -> None:
    image = shelf.image(shelf.manifest("amd64"))
    layer = next(digest for digest, data in shelf.blobs.items() if data.startswith(b"\x1f\x8b"))
    shelf.blobs[layer] = change(shelf.blobs[layer])
    with pytest.raises(PaddockError, match=words):
        image_archive(state, image, "x86_64", silent)
    assert list((state.path / "artifacts" / "images").iterdir()) == []


def test_a_manifest_of_another_digest_and_one_that_is_gone_are_refused(shelf: Shelf, state: FleetState) -> None:
    image = shelf.image(shelf.manifest("amd64"))
    digest = image.reference.partition("@")[2]
    shelf.blobs[digest] += b" "
    with pytest.raises(PaddockError, match="has another digest"):
        image_archive(state, image, "x86_64", silent)
    del shelf.blobs[digest]
    with pytest.raises(PaddockError, match="has no image of this digest any more: pin another"):
        image_archive(state, image, "x86_64", silent)


@pytest.mark.parametrize(
    "said",
    [
        {"layers": []},
        {"layers": "none"},
        {"layers": [{"digest": "sha256:../../etc", "size": 1}]},
        {"layers": [{"digest": "sha256:" + "0" * 64, "size": -1}]},
        {"config": None},
    ],
)
def test_what_is_no_manifest_is_refused(shelf: Shelf, state: FleetState, said: dict[str, Any]) -> None:
    with pytest.raises(PaddockError, match="is no manifest of an image"):
        image_archive(state, shelf.image(shelf.manifest("amd64", **said)), "x86_64", silent)


@pytest.mark.parametrize("said", [{"layers": [{"digest": "sha256:" + "0" * 64, "size": 1 << 36}] * 2}, {"layers": "many"}])
def test_one_that_is_larger_than_its_bound_is_refused_before_it_comes(shelf: Shelf, state: FleetState, said: dict[str, Any]) -> None:
    if said["layers"] == "many":
        said = {"layers": [{"digest": "sha256:" + "0" * 64, "size": 1}] * 200}
    with pytest.raises(PaddockError, match="which is too much"):
        image_archive(state, shelf.image(shelf.manifest("amd64", **said)), "x86_64", silent)
    assert not any("/blobs/" in each for each in shelf.asked)


def test_a_file_that_was_changed_is_not_sent(shelf: Shelf, state: FleetState) -> None:
    image = shelf.image(shelf.manifest("amd64"), shelf.manifest("arm64"))
    path = image_archive(state, image, "x86_64", silent)
    whole = path.read_bytes()
    parts = inside(path)
    for name in parts:
        at = whole.index(parts[name])
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(PaddockError, match="was changed since it was fetched: remove it"):
            image_archive(state, image, "x86_64", silent)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PaddockError, match="was changed since it was fetched"):
        image_archive(state, image, "x86_64", silent)
    image_archive(state, image, "aarch64", silent).replace(path)
    with pytest.raises(PaddockError, match="was changed since it was fetched"):
        image_archive(state, image, "x86_64", silent)
