from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from roles.image import ContainerMemory, ImageReference
from roles.role import LINE_ENDS, Endpoint, Matches, Name, RoleSettings, Settings, Url, address_of, loopback_of
from roles.tracing import Tracing

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

Email = Annotated[str, Matches(rf"[^@\s{LINE_ENDS}]+@[^@\s{LINE_ENDS}]+", "is not an e-mail address, such as ann@home.example")]

SALT, ENCRYPTION, SESSION, PASSWORD, KEY = "salt", "encryption", "session", "password", "key"
POSTGRES, CLICKHOUSE, VALKEY, STORE = "postgres", "clickhouse", "valkey", "store"

MADE: Mapping[str, str] = {
    SALT: "what its API keys are hashed with",
    ENCRYPTION: "what its database is encrypted with",
    SESSION: "what its sessions are signed with",
    PASSWORD: "password of its first user",
    KEY: "secret key of its first project",
    POSTGRES: "password of its PostgreSQL",
    CLICKHOUSE: "password of its ClickHouse",
    VALKEY: "password of its Valkey",
    STORE: "password of its object store",
}


class LangfuseImages(Settings):
    """The images of Langfuse 3, each with its digest."""

    web: ImageReference
    """`docker.io/langfuse/langfuse:3@sha256:…`"""

    worker: ImageReference
    """`docker.io/langfuse/langfuse-worker:3@sha256:…`, of the same version."""

    postgres: ImageReference
    """`docker.io/library/postgres:17@sha256:…`. Another major version does not read the data of this one."""

    clickhouse: ImageReference
    """`docker.io/clickhouse/clickhouse-server:25.8@sha256:…`"""

    valkey: ImageReference
    """`docker.io/valkey/valkey:8@sha256:…`"""

    store: ImageReference
    """`docker.io/minio/minio:latest@sha256:…`"""


class LangfuseMemory(Settings):
    """The memory limit of each container."""

    web: ContainerMemory = "1536m"
    worker: ContainerMemory = "1536m"
    postgres: ContainerMemory = "512m"
    clickhouse: ContainerMemory = "3072m"
    valkey: ContainerMemory = "256m"
    store: ContainerMemory = "512m"


class LangfuseSettings(RoleSettings):
    """Langfuse 3, which keeps traces of requests: its page and its worker, with a PostgreSQL, a ClickHouse, a Valkey and an object store of
    their own, as one stack. docs/langfuse.md is its manual."""

    images: LangfuseImages
    """The images, each with its digest."""

    listen: Endpoint = "127.0.0.1:3000"
    """Where its page and its API are published. Nothing else is. It speaks plain HTTP."""

    url: Url | None = None
    """The URL that people open it by; by default `http://` and what it listens on."""

    email: Email
    """Who signs in first, and owns the organization. The password is the secret `langfuse-password.HOST`."""

    organization: Name = "home"
    """The first organization."""

    project: Name = "fleet"
    """The first project. Its secret key is the secret `langfuse-key.HOST`."""

    memory: LangfuseMemory = LangfuseMemory()
    """The memory limits."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        for what, words in MADE.items():
            yield secret_name(what, host), f"Langfuse on {host}: {words}"

    def irreplaceable(self, host: str) -> Iterator[tuple[str, str]]:
        yield secret_name(SALT, host), "Langfuse would know none of its API keys any more"
        yield secret_name(ENCRYPTION, host), "Langfuse could not read what its database has encrypted"
        yield secret_name(PASSWORD, host), "Langfuse takes it at its first start alone: change it on its page"

    def tracing(self, host: str) -> Tracing:
        return Tracing((self.url or "").rstrip("/"), self.listen, secret_name(KEY, host))

    def front(self) -> str:
        return loopback_of(self.listen) if address_of(self.listen) in ("0.0.0.0", "::") else self.listen

    @property
    def opened_at(self) -> str:
        return (self.url or f"http://{self.listen}").rstrip("/")

    def details(self) -> Iterable[str]:
        yield self.opened_at

    def rehearsed(self, here: Rehearsal) -> tuple[None, list[str]]:
        return None, [
            f"{here.host}: the role langfuse is left out: a lab has none of its images. It is rendered, and its compose.yml is checked."
        ]

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"docker": f"langfuse runs in containers: add the role docker to {host}"}


def secret_name(what: str, host: str) -> str:
    """`langfuse-salt.prod`"""
    return f"langfuse-{what}.{host}"
