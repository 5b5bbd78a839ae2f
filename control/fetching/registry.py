"""What a registry has an image by: its digest, asked for over the registry's HTTP API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import requests

from control.fetching.download import reason
from control.fetching.session import Session, is_loopback
from inventory import bounds
from inventory.bounds import TooMuch, from_json
from inventory.errors import PaddockError

REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._/:-]*?)(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?")
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Of manifests: those for several platforms first, so that a digest fits each of them."""

CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')


@dataclass(frozen=True)
class Tagged:
    """An image by a tag: `docker.io`, `library/postgres`, `17`."""

    registry: str
    repository: str
    tag: str

    @property
    def url(self) -> str:
        return self.at("manifests", self.tag)

    def at(self, what: Literal["manifests", "blobs"], name: str) -> str:
        """What Docker calls docker.io answers under another name. A registry on this machine may have no certificate, as for Docker."""
        host = "registry-1.docker.io" if self.registry == "docker.io" else self.registry
        scheme = "http" if is_loopback(host.rpartition(":")[0] or host) else "https"
        return f"{scheme}://{host}/v2/{self.repository}/{what}/{name}"


def tagged(reference: str) -> Tagged:
    """As Docker reads it: `postgres` is `docker.io/library/postgres:latest`. Raises PaddockError for what names no image."""
    match = REFERENCE.fullmatch(reference)
    if not match or "//" in reference or match["name"].endswith("/"):
        raise PaddockError(f'"{reference}" names no image, such as docker.io/library/postgres:17')
    first, _, rest = match["name"].partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, rest
    else:
        registry, repository = "docker.io", match["name"]
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return Tagged(registry, repository, match["tag"] or "latest")


def digest_of(reference: str) -> str:
    """`sha256:…` of what the registry has under the tag now. Raises PaddockError where it has nothing, or cannot be asked."""
    image = tagged(reference)
    with asking(reference, image), Session(bounds.IMAGE_MANIFEST, plain_http=False) as session:
        answer = answered(session, image, image.url)
        if answer.status_code == requests.codes.not_found:
            raise PaddockError(f"{reference}: {image.registry} has no such image: is the tag right?")
        answer.raise_for_status()
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    said = answer.headers.get("Docker-Content-Digest", found)
    if kind not in KINDS or (said.startswith("sha256:") and said != found):
        raise PaddockError(f"{reference}: what {image.registry} answers is no manifest of an image")
    return found


@contextmanager
def asking(reference: str, image: Tagged) -> Iterator[None]:
    """Raises PaddockError for a registry that does not answer as it should."""
    try:
        yield
    except requests.RequestException as error:
        raise PaddockError(f"{reference}: {image.registry} {reason(error)}") from None
    except TooMuch as error:
        raise PaddockError(f"{reference}: {error}") from None


def answered(session: Session, image: Tagged, url: str, *, stream: bool = False) -> requests.Response:
    """What everybody gets at a URL of an image, whatever its status. Raises PaddockError where the registry wants a login."""
    headers = {"Accept": ", ".join(KINDS)} if "/manifests/" in url else {}
    answer = session.get(url, headers=headers, stream=stream)
    if answer.status_code != requests.codes.unauthorized:
        return answer
    answer.close()
    with Session(bounds.IMAGE_MANIFEST, plain_http=False) as asked:
        token = _token(asked, image, answer.headers.get("WWW-Authenticate", ""))
    return session.get(url, headers={**headers, "Authorization": f"Bearer {token}"}, stream=stream)


def _token(session: Session, image: Tagged, challenge: str) -> str:
    """The one that everybody gets, for an image that everybody may have."""
    kind, _, said = challenge.partition(" ")
    asked = dict(CHALLENGE.findall(said))
    refused = PaddockError(f"{image.registry}/{image.repository}: the registry wants a login: pin the digest by hand")
    if kind.lower() != "bearer" or "realm" not in asked:
        raise refused
    wanted = {"service": asked.get("service", ""), "scope": f"repository:{image.repository}:pull"}
    answer = session.get(asked["realm"], params=wanted)
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        raise refused
    answer.raise_for_status()
    try:
        found = from_json(answer.content)
        token = found.get("token") or found["access_token"]
    except (ValueError, LookupError, AttributeError, TypeError):
        raise refused from None
    if not isinstance(token, str) or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise refused
    return token
