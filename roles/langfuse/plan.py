"""Langfuse's containers, after the docker-compose.yml of its version 3 (github.com/langfuse/langfuse), each with what it needs and no more.

Its page takes uploads of media to no object store: the browser would have to reach that, and nothing is published but the page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from inventory.fleet import Fleet, Host
from inventory.knowledge import TO_BE_ISSUED, Knowledge
from resources import ENGINE, UNOPENED, File, Port, Resource
from roles.compose import Contained, directory_of, published_at, stack, volume
from roles.langfuse import settings as names
from roles.langfuse.settings import LangfuseSettings, secret_name
from roles.role import TEMPLATES, port_of, render
from roles.tracing import public_key

NAME = "langfuse"
WEB = "web.env"
WEB_VARIABLES = f"{directory_of(NAME)}/{WEB}"
"""What the page alone reads that is secret, such as the keys of the first project."""

SHORTEST = 32
"""Characters of a secret: what is published of one, as its digest, is not to be guessed."""

PASSWORD_FILE = "/run/secrets/password"
"""Where a container reads its own."""

AS_ROOT_AT_FIRST = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
"""What an entry needs that gives the data to the image's account and becomes it."""


def plan(host: Host, settings: LangfuseSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    secrets = {what: knowledge.key(secret_name(what, host.name), SHORTEST) for what in names.MADE}
    shared, web = _shared(secrets), _web(secrets)
    memory, images = settings.memory, settings.images
    port = Port(port_of(settings.listen), published_at(settings.listen), ENGINE)
    kept = _databases(settings, secrets)
    # Read-only neither: Prisma and Next.js write beside their own files.
    worker = Contained(
        image=images.worker,
        environment=_environment(settings),
        env_files=(shared,),
        memory=memory.worker,
        health=_answers("http://127.0.0.1:3030/api/health"),
        start_s=300,
        after=tuple(kept),
        read_only=False,
    )
    page = Contained(
        image=images.web,
        environment={**_environment(settings), **_first(settings)},
        env_files=(shared, web),
        publishes=((port, 3000),),
        memory=memory.web,
        health=_answers("http://127.0.0.1:3000/api/public/health"),
        start_s=300,  # it migrates the databases first
        after=tuple(kept),
        read_only=False,
    )
    wanted = {**kept, "worker": worker, "web": page}
    *others, last = stack(NAME, wanted, ready_timeout_s=900, brought=host.brings_images)
    yield from others
    yield from {file.id: file for one in wanted.values() for file in one.files}.values()
    yield last


def remarks(host: Host, settings: LangfuseSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    if not settings.url and not settings.listen.startswith(("127.", "[::1]")):
        words = f"NOT ENCRYPTED: at {settings.listen} passwords, and what is traced, are clear text on the network"
        yield f"hosts.{host.name}.roles.langfuse: {words}: listen on loopback, behind a reverse proxy that speaks TLS"


def _databases(settings: LangfuseSettings, secrets: Mapping[str, str]) -> dict[str, Contained]:
    """What keeps data, a container each."""
    images, memory = settings.images, settings.memory
    postgres = Contained(
        image=images.postgres,
        entrypoint=("/paddock/entry.sh",),
        environment={
            "POSTGRES_USER": "langfuse",
            "POSTGRES_DB": "langfuse",
            "POSTGRES_PASSWORD_FILE": PASSWORD_FILE,
            "PGDATA": "/database/data",  # a place that no version of the image has for itself
        },
        reads={
            "/paddock/entry.sh": _file("postgres.sh", (TEMPLATES / "langfuse" / "postgres.sh").read_text(), mode=0o755),
            PASSWORD_FILE: _secret("postgres-password", secrets[names.POSTGRES]),
        },
        keeps={"/database": volume(NAME, "postgres")},
        temporary=("/tmp", "/var/run/postgresql"),
        memory=memory.postgres,
        health=("pg_isready", "--quiet", "--username", "langfuse", "--dbname", "langfuse"),
        capabilities=AS_ROOT_AT_FIRST,
    )
    clickhouse = Contained(
        image=images.clickhouse,
        # Its user comes from users.d here, not from variables.
        environment={"CLICKHOUSE_SKIP_USER_SETUP": "1"},
        reads={
            "/etc/clickhouse-server/users.d/paddock.xml": _digested("clickhouse-users.xml", secrets[names.CLICKHOUSE]),
            "/etc/clickhouse-server/config.d/paddock.xml": _file("clickhouse.xml", (TEMPLATES / "langfuse" / "clickhouse.xml").read_text()),
        },
        keeps={"/var/lib/clickhouse": volume(NAME, "clickhouse")},
        temporary=("/tmp", "/var/log/clickhouse-server"),
        user="101:101",
        memory=memory.clickhouse,
        health=("wget", "--quiet", "--tries=1", "--spider", "http://127.0.0.1:8123/ping"),
    )
    valkey = Contained(
        image=images.valkey,
        command=("valkey-server", "/etc/valkey/valkey.conf"),
        reads={"/etc/valkey/valkey.conf": _digested("valkey.conf", secrets[names.VALKEY])},
        keeps={"/data": volume(NAME, "valkey")},
        temporary=("/tmp",),
        user="valkey",
        memory=memory.valkey,
        health=("valkey-cli", "ping"),
    )
    store = Contained(
        image=images.store,
        entrypoint=("sh", "-c", "mkdir -p /data/langfuse && exec minio server --address :9000 /data"),
        environment={
            "MINIO_ROOT_USER": "langfuse",
            "MINIO_ROOT_PASSWORD_FILE": PASSWORD_FILE,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MC_CONFIG_DIR": "/tmp/mc",
        },
        reads={PASSWORD_FILE: _secret("store-password", secrets[names.STORE])},
        keeps={"/data": volume(NAME, "store")},
        temporary=("/tmp", "/root"),  # it makes ~/.minio
        memory=memory.store,
        health=("mc", "ready", "local"),
    )
    return {names.POSTGRES: postgres, names.CLICKHOUSE: clickhouse, names.VALKEY: valkey, names.STORE: store}


def _environment(settings: LangfuseSettings) -> dict[str, str]:
    """What the page and the worker read, without secrets."""
    return {
        "NEXTAUTH_URL": settings.opened_at,
        "TELEMETRY_ENABLED": "false",
        "NEXT_TELEMETRY_DISABLED": "1",
        "LANGFUSE_ENABLE_EXPERIMENTAL_FEATURES": "false",
        "CLICKHOUSE_URL": "http://clickhouse:8123",
        "CLICKHOUSE_MIGRATION_URL": "clickhouse://clickhouse:9000",
        "CLICKHOUSE_USER": "langfuse",
        "CLICKHOUSE_CLUSTER_ENABLED": "false",
        "REDIS_HOST": "valkey",
        "REDIS_PORT": "6379",
        "LANGFUSE_S3_EVENT_UPLOAD_BUCKET": "langfuse",
        "LANGFUSE_S3_EVENT_UPLOAD_REGION": "auto",
        "LANGFUSE_S3_EVENT_UPLOAD_ENDPOINT": "http://store:9000",
        "LANGFUSE_S3_EVENT_UPLOAD_FORCE_PATH_STYLE": "true",
        "LANGFUSE_S3_EVENT_UPLOAD_PREFIX": "events/",
        "LANGFUSE_S3_EVENT_UPLOAD_ACCESS_KEY_ID": "langfuse",
        "HOSTNAME": "0.0.0.0",  # Next.js would listen on the container's name alone
    }


def _first(settings: LangfuseSettings) -> dict[str, str]:
    """What is made at the first start, and that nobody else signs up."""
    return {
        "AUTH_DISABLE_SIGNUP": "true",
        "LANGFUSE_INIT_ORG_ID": settings.organization,
        "LANGFUSE_INIT_ORG_NAME": settings.organization,
        "LANGFUSE_INIT_PROJECT_ID": settings.project,
        "LANGFUSE_INIT_PROJECT_NAME": settings.project,
        "LANGFUSE_INIT_USER_EMAIL": settings.email,
        "LANGFUSE_INIT_USER_NAME": settings.email.partition("@")[0],
    }


def _shared(secrets: Mapping[str, str]) -> File:
    return _variables(
        "shared.env",
        {
            "DATABASE_URL": f"postgresql://langfuse:{_in_url(secrets[names.POSTGRES])}@postgres:5432/langfuse",
            "SALT": secrets[names.SALT],
            "ENCRYPTION_KEY": _digest(secrets[names.ENCRYPTION]),  # 256 bits in hex are asked for
            "CLICKHOUSE_PASSWORD": secrets[names.CLICKHOUSE],
            "REDIS_AUTH": secrets[names.VALKEY],
            "LANGFUSE_S3_EVENT_UPLOAD_SECRET_ACCESS_KEY": secrets[names.STORE],
        },
    )


def _web(secrets: Mapping[str, str]) -> File:
    return _variables(
        WEB,
        {
            "NEXTAUTH_SECRET": secrets[names.SESSION],
            "LANGFUSE_INIT_PROJECT_PUBLIC_KEY": public_key(secrets[names.KEY]),
            "LANGFUSE_INIT_PROJECT_SECRET_KEY": secrets[names.KEY],
            "LANGFUSE_INIT_USER_PASSWORD": secrets[names.PASSWORD],
        },
    )


def _answers(url: str) -> tuple[str, ...]:
    return ("wget", "-q", "-O", "/dev/null", url)


def _variables(name: str, values: Mapping[str, str]) -> File:
    """An env file. No value has a character that Compose reads as something else: see Knowledge.key."""
    return _secret(name, "\n".join(f"{key}={value}" for key, value in values.items()))


def _secret(name: str, content: str) -> File:
    return _file(name, f"{content}\n", mode=0o600, secret=True)


def _digested(name: str, password: str) -> File:
    """What a server knows its password by. Its account in the image reads it: it may be read by all, as there is no password in it."""
    digest = _digest(password)
    return _file(name, UNOPENED if digest == UNOPENED else render(f"langfuse/{name}.j2", digest=digest))


def _file(name: str, content: str, *, mode: int = 0o644, secret: bool = False) -> File:
    return File(f"{directory_of(NAME)}/{name}", content, mode=mode, secret=secret)


def _digest(secret: str) -> str:
    """SHA-256 in hex; a placeholder as it is."""
    return secret if secret in (UNOPENED, TO_BE_ISSUED) else hashlib.sha256(secret.encode()).hexdigest()


def _in_url(secret: str) -> str:
    """Of what Knowledge.key lets through only these have a meaning there."""
    return secret.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
