"""Images for hosts that reach no registry: fetched whole for a host's platform, each part checked by its digest.

    artifacts/images/NAME-DIGEST-ARCHITECTURE.tar

The file is what `docker load` takes, of a store of either kind, and shows by itself that it is the image of that digest: its first part is
the manifest that has it, and each part is called by its own.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from control.fetching.archives import members
from control.fetching.download import Progress
from control.fetching.registry import Tagged, answered, asking, tagged
from control.fetching.session import Session
from control.state.fleet import FleetState, in_words
from inventory import bounds
from inventory.bounds import TooMuch, from_json
from inventory.errors import PaddockError
from resources import Image

PLATFORMS: Mapping[str, tuple[str, str]] = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armhf": ("arm", "v7")}
"""A host's architecture → what registries call it, and its variant."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MANIFEST_KINDS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")


@dataclass(frozen=True)
class Part:
    """What lies in a registry by its digest."""

    digest: str
    size: int

    @property
    def name(self) -> str:
        """In the file: `blobs/sha256/…`"""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True)
class Manifests:
    """What an image is: its manifest, behind the list of those for all platforms where it has one, and the parts that it names."""

    listed: tuple[bytes, ...]
    config: Part
    layers: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the file's order; layers may be the same."""
        return tuple(dict.fromkeys((*map(part_of, self.listed), self.config, *self.layers)))


def archive_path(state: FleetState, image: Image, architecture: str) -> Path:
    """Where the file of an image lies, or is to lie."""
    name = re.sub(r"[^a-z0-9.]", "_", image.reference.partition("@")[0])
    return state.path / "artifacts" / "images" / f"{name}-{_digest_of(image)[7:]}-{architecture}.tar"


def image_archive(state: FleetState, image: Image, architecture: str, progress: Progress) -> Path:
    """The file with an image for such a host; it is fetched where it is not here. Raises PaddockError."""
    path = archive_path(state, image, architecture)
    if path.is_file():
        _require_whole(path, image, architecture)
        return path
    source = tagged(image.reference.partition("@")[0])
    directory = state.directory("artifacts", "images")
    with in_words(path, "cannot be written"), asking(image.reference, source), tempfile.TemporaryDirectory(dir=directory) as scratch:
        found, made = _fetched_manifests(source, image, architecture), Path(scratch) / path.name
        with made.open("wb") as file, tarfile.open(fileobj=file, mode="w:") as tar:
            for content in found.listed:
                _add(tar, part_of(content).name, content)
            for part in found.parts[len(found.listed) :]:
                _fetch(tar, source, image, part, progress)
            for name, content in _closing(found, image):
                _add(tar, name, content)
        made.chmod(0o600)
        made.replace(path)
    return path


def part_of(content: bytes) -> Part:
    return Part(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def _digest_of(image: Image) -> str:
    return image.reference.partition("@")[2]


def _fetched_manifests(source: Tagged, image: Image, architecture: str) -> Manifests:
    """Raises PaddockError where the registry has another image, or none for the platform."""
    with Session(bounds.IMAGE_MANIFEST, plain_http=False) as session:
        first = _fetched_manifest(session, source, image, _digest_of(image))
        chosen = _chosen(first, image, architecture)
        listed = (first, _fetched_manifest(session, source, image, chosen)) if chosen else (first,)
    return _manifests(listed, image)


def _fetched_manifest(session: Session, source: Tagged, image: Image, digest: str) -> bytes:
    answer = answered(session, source, source.at("manifests", digest))
    if answer.status_code == requests.codes.not_found:
        raise PaddockError(f"{image.reference}: {source.registry} has no image of this digest any more: pin another")
    answer.raise_for_status()
    if part_of(answer.content).digest != digest:
        raise PaddockError(f"{image.reference}: what {source.registry} answers has another digest")
    return answer.content


def _chosen(content: bytes, image: Image, architecture: str) -> str:
    """The digest of the manifest for the platform; empty where there is one for all. Raises PaddockError where there is none."""
    said = _object(content, image)
    if "manifests" not in said:
        return ""
    wanted, variant = PLATFORMS.get(architecture, (architecture, ""))
    have = []
    for each in said["manifests"] if isinstance(said["manifests"], list) else ():
        platform = each.get("platform") if isinstance(each, dict) else None
        if not isinstance(platform, dict) or platform.get("os") != "linux":
            continue
        have.append(str(platform.get("architecture")))
        if platform.get("architecture") == wanted and platform.get("variant", variant) == variant:
            return _part(each, image).digest
    raise PaddockError(f"{image.reference}: has no image for {wanted}{variant and f'/{variant}'}, only for {', '.join(have) or 'none'}")


def _manifests(listed: tuple[bytes, ...], image: Image) -> Manifests:
    """Raises PaddockError where the last of them is no manifest of an image, or names more than is taken."""
    said = _object(listed[-1], image)
    layers = said.get("layers")
    if not isinstance(layers, list) or not layers:
        raise _is_none(image)
    found = Manifests(listed, _part(said.get("config"), image), tuple(_part(each, image) for each in layers))
    if len(found.layers) > bounds.IMAGE.items // 2 or sum(each.size for each in found.parts) > bounds.IMAGE.size:
        raise TooMuch(f"{image.reference}: has {len(layers)} layers of {sum(each.size for each in found.parts):,} bytes, which is too much")
    if found.config.size > bounds.IMAGE_MANIFEST.size:
        raise TooMuch(f"{image.reference}: its configuration has {found.config.size:,} bytes")
    return found


def _object(content: bytes, image: Image) -> dict[str, Any]:
    try:
        found = from_json(content)
    except ValueError:
        raise _is_none(image) from None
    if not isinstance(found, dict):
        raise _is_none(image)
    return found


def _part(said: Any, image: Image) -> Part:
    match said:
        case {"digest": str(digest), "size": int(size)} if DIGEST.fullmatch(digest) and 0 <= size <= bounds.IMAGE.size:
            return Part(digest, size)
    raise _is_none(image)


def _is_none(image: Image) -> PaddockError:
    return PaddockError(f"{image.reference}: what has this digest is no manifest of an image")


def _fetch(tar: tarfile.TarFile, source: Tagged, image: Image, part: Part, progress: Progress) -> None:
    with (
        Session(bounds.IMAGE, plain_http=False) as session,
        answered(session, source, source.at("blobs", part.digest), stream=True) as answer,
    ):
        answer.raise_for_status()
        body = _Checked(answer.iter_content(1 << 18), part, image, progress)
        tar.addfile(_member(part.name, part.size), body)  # type: ignore[arg-type]  # as much of a file as it needs
        body.end()


class _Checked:
    """What comes of one part, as tarfile reads it. Raises PaddockError where it is not that part, whole."""

    def __init__(self, pieces: Iterator[bytes], part: Part, image: Image, progress: Progress) -> None:
        self.pieces, self.part, self.image, self.progress = pieces, part, image, progress
        self.digest, self.done, self.left = hashlib.sha256(), 0, b""

    def read(self, size: int) -> bytes:
        while len(self.left) < size and (piece := next(self.pieces, b"")):
            self.left += piece
        taken, self.left = self.left[:size], self.left[size:]
        self.digest.update(taken)
        self.done += len(taken)
        if len(taken) < size:
            raise PaddockError(f"{self.image.reference}: {self.part.digest} was cut off after {self.done} of {self.part.size} bytes")
        self.progress(self.image.name, self.done, self.part.size)
        return taken

    def end(self) -> None:
        if self.left or next(self.pieces, b"") or f"sha256:{self.digest.hexdigest()}" != self.part.digest:
            raise PaddockError(f"{self.image.reference}: what came as {self.part.digest} is something else")


def _closing(found: Manifests, image: Image) -> Iterator[tuple[str, bytes]]:
    """What names the parts: a classical store reads manifest.json, containerd's index.json."""
    manifest = part_of(found.listed[-1])
    kind = from_json(found.listed[-1]).get("mediaType")
    described = {
        "mediaType": kind if kind in MANIFEST_KINDS else MANIFEST_KINDS[0],
        "digest": manifest.digest,
        "size": manifest.size,
        "annotations": {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name.rpartition(":")[2]},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described]}
    saved = [{"Config": found.config.name, "RepoTags": [image.name], "Layers": [each.name for each in found.layers]}]
    for name, said in (("index.json", index), ("manifest.json", saved), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        yield name, json.dumps(said).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Without a time: the same image is the same file, so that a host goes on with what came of it."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _require_whole(path: Path, image: Image, architecture: str) -> None:
    """Raises PaddockError where a file is not the image of that digest for the platform, to the last byte."""
    try:
        whole = _is_whole(path, image, architecture)
    except (tarfile.ReadError, PaddockError):
        whole = False
    if not whole:
        raise PaddockError(f"{path}: was changed since it was fetched: remove it, and it is fetched again")


def _is_whole(path: Path, image: Image, architecture: str) -> bool:
    found, wanted = members(path, bounds.IMAGE, str(path)), _digest_of(image)
    listed: list[bytes] = []
    while wanted:
        member = next(found, None)
        if member is None or member.info.size > bounds.IMAGE_MANIFEST.size or part_of(content := member.content()).digest != wanted:
            return False
        listed.append(content)
        wanted = _chosen(content, image, architecture) if len(listed) == 1 else ""
    known = _manifests(tuple(listed), image)
    names = [(part.name, part.digest) for part in known.parts[len(listed) :]]
    names += [(name, part_of(content).digest) for name, content in _closing(known, image)]
    for name, digest in names:
        member = next(found, None)
        if member is None or member.name != name or _sha256(member.blocks()) != digest:
            return False
    return next(found, None) is None


def _sha256(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
