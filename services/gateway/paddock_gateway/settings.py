"""The gateway's configuration: the JSON file that Paddock writes. Its schema is configuration.schema.json, made from these types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Text = Annotated[str, Meta(min_length=1, max_length=256)]


class SettingsError(Exception):
    """The file that cannot be used, where in it, and why, in one line."""


class Backend(Struct, frozen=True, forbid_unknown_fields=True):
    """A llama-server, or with `slots` one that makes images, at `http://192.0.2.10:8080` or `unix:/run/paddock/llama-server.sock`."""

    url: Annotated[str, Meta(pattern=r"^(https?://[^/\s]+|unix:/\S+)$")]
    key_file: str = ""
    """The file with its API key; none where it asks for none."""
    router: bool = False
    """Whether it loads several models by itself."""
    models_max: int = 0
    """How many models a router keeps loaded; 0: all."""
    slots: int = 0
    """Its places, where it is not to be asked (`/props`, `/slots`)."""


class Target(Struct, frozen=True, forbid_unknown_fields=True):
    """A model at a back end. `model` is its id there."""

    backend: Text
    model: Text


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """None is unlimited. Requests and tokens count within any window of `window_s` seconds."""

    requests: Positive | None = None
    tokens: Positive | None = None
    window_s: Positive = 60
    parallel: Positive | None = None
    """Requests at once, waiting ones too."""


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """A model as callers name it. Each target is a replica."""

    targets: Annotated[tuple[Target, ...], Meta(min_length=1)]
    aliases: tuple[Text, ...] = ()
    limits: Limits = Limits()
    """Of all users together."""
    context: int = 0
    """Tokens, where it is known; 0 where it is not."""
    image_size: Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,4}x[1-9][0-9]{0,4})?$")] = ""
    """Of a model that makes images, in pixels, where a request says none: `512x512`. Empty of a model that makes none."""


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """A user that the inventory declares. `digest` is the key's HMAC-SHA256 with the pepper, in hex; the key itself is not here."""

    name: Text
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    models: tuple[Text, ...] | None = None
    """None: all."""
    limits: Limits | None = None
    weight: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    expires: float | None = None
    """Seconds since 1970."""
    admin: bool = False
    """May drain, resume and manage keys."""


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    length: Positive = 256
    """Requests that may wait, of all users."""
    per_user: Positive = 64
    wait_s: Seconds = 300.0
    """The longest wait: 429 after it."""
    swap_bound_s: Seconds = 30.0
    """A router goes on with the loaded model at most so long while another model's request waits."""


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    every_s: Seconds = 15.0
    failures: Positive = 2
    """So many in a row and the back end cools down."""
    cooldown_s: Seconds = 60.0
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    """On another back end, before the first byte."""
    wait_s: Annotated[float, Meta(ge=0)] = 120.0
    """A model of which no back end is up any more is waited for so long: 503 after it."""


class KeysGenerate(Struct, frozen=True, forbid_unknown_fields=True):
    """`/keys/generate` without a key, for callers from these networks alone."""

    networks: Annotated[tuple[str, ...], Meta(min_length=1)] = ("127.0.0.0/8", "::1/128")


class Pi(Struct, frozen=True, forbid_unknown_fields=True):
    """The small host's API: `/generate`, `/benchmark`, `/health`."""

    model: Text
    max_tokens: Annotated[int, Meta(ge=1, le=2048)] = 160
    """Where a request says none."""
    max_concurrent: Positive = 4
    """Requests of any API that run at once on a back end of the model, where it has more slots; the others wait in the queue."""
    threads: int = 0
    """What the benchmark recommends as N_THREADS; 0: the number of processors."""
    residency_s: Positive = 1800
    warm_up: bool = False
    """Ask the model for one token at start; ready only then."""
    keys_generate: KeysGenerate | None = None


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """The table llama_requests."""

    retention_days: Positive = 90
    every_s: Seconds = 0.25
    """A batch is written so often."""
    spool_mib: Positive = 64
    """On disk, while the database is away. Rows beyond it are dropped and counted."""


class Tracing(Struct, frozen=True, forbid_unknown_fields=True):
    """A Langfuse that gets a trace of each request: `http://127.0.0.1:3000`, and the keys of one of its projects."""

    url: Annotated[str, Meta(pattern=r"^https?://[^/\s]+$")]
    public_key: Text
    secret_key_file: Text


class Configuration(Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[tuple[Text, ...], Meta(min_length=1)]
    """`127.0.0.1:8001`, `[::1]:8001`, or an interface's name: `tailscale0:8001`."""
    database: Text
    """`sqlite:/var/lib/paddock-gateway/gateway.db` or `postgresql://USER@HOST:PORT/NAME`; the password is in `database_password_file`."""
    pepper_file: Text
    state: Text
    """The directory for the spool and locks."""
    backends: dict[str, Backend]
    models: dict[str, Model]
    database_password_file: str = ""
    master_key_file: str = ""
    """The key of the management calls (`/key/generate` …); empty turns them off."""
    admin_socket: str = ""
    """A Unix socket for drain and resume without a key; its mode says who may."""
    users: tuple[User, ...] = ()
    default_limits: Limits = Limits()
    """Of users who have none of their own."""
    global_limits: Limits = Limits()
    """Of all users and models together."""
    queue: Queue = Queue()
    health: Health = Health()
    log: Log = Log()
    tracing: Tracing | None = None
    pi: Pi | None = None
    known_keys_s: Seconds = 3600.0
    """So long a known key goes on to work while the database is away."""
    heartbeat_s: Seconds = 10.0
    """A comment in a stream that has nothing to say yet."""
    drain_s: Seconds = 90.0
    """How long requests may go on after SIGTERM."""
    body_mib: Positive = 32
    body_s: Seconds = 60.0
    """How long a caller may take to send a request."""
    head_s: Seconds = 20.0
    """How long a new connection may take to send the head of its first request."""
    stalled_s: Seconds = 120.0
    """So long a caller may take nothing of its answer; then its connection is cut, and its slot is free."""
    connections: Positive = 2048
    """At once. One more takes the place of the connection that has waited longest for a request; where none waits, it gets 503."""
    shared_system_prompt: bool = False
    """Let users share what a slot keeps of a common system prompt."""
    metrics_listen: str = ""
    """A second address that answers /metrics, /livez and /readyz alone; without it they are at `listen`."""
    metrics_by_user: bool = False
    access_log: bool = True


def configuration(path: Path) -> Configuration:
    """Raises SettingsError where the file cannot be read, is no JSON, or does not fit."""
    try:
        said = msgspec.json.decode(path.read_bytes(), type=Configuration)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from None
    for problem in _problems(said):
        raise SettingsError(f"{path}: {problem}")
    return said


def _problems(said: Configuration) -> list[str]:
    """What types cannot say: names that lead nowhere, names for two things."""
    found: list[str] = []
    names: dict[str, str] = {}
    for model, entry in said.models.items():
        for name in (model, *entry.aliases):
            if names.setdefault(name, model) != model:
                found.append(f"models.{model}: {name!r} names {names[name]!r} too: give each name to one model")
        found += [
            f"models.{model}: there is no back end {target.backend!r}" for target in entry.targets if target.backend not in said.backends
        ]
    if said.pi and said.pi.model not in names:
        found.append(f"pi.model: there is no model {said.pi.model!r}")
    seen: set[str] = set()
    for user in said.users:
        if user.name in seen:
            found.append(f"users: {user.name!r} stands there twice")
        seen.add(user.name)
        found += [f"users.{user.name}: there is no model {name!r}" for name in user.models or () if name not in names]
    return found
