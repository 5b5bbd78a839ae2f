"""Keys in LiteLLM's words: what `/key/generate` may ask for, what of it this gateway can keep, and a key as it is shown there."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, Any

from msgspec import Meta, Struct

from paddock_gateway.contract import KeyRecord, Users, nearest
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration, Limits

Count = Annotated[int, Meta(ge=1, le=2**53)]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Which = Annotated[str, Meta(min_length=1, max_length=256)]

ALL_MODELS = frozenset({"all-proxy-models", "all-team-models"})
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400}
LONGEST_S = 100 * 366 * 86400


class GenerateKey(Struct):
    """The body of `/key/generate`: https://docs.litellm.ai/docs/proxy/virtual_keys. Fields that only describe (`metadata`, `tags` …) are
    ignored; those that would bound a key and cannot here are refused, as a key with fewer bounds than were asked for helps nobody."""

    models: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=256)] | None = None
    key_alias: Name | None = None
    duration: Annotated[str, Meta(max_length=32)] | None = None
    user_id: Name | None = None
    rpm_limit: Count | None = None
    tpm_limit: Count | None = None
    max_parallel_requests: Count | None = None
    blocked: bool | None = None
    key_type: str | None = None
    max_budget: float | None = None
    soft_budget: float | None = None
    model_max_budget: dict[str, Any] | None = None
    model_rpm_limit: dict[str, Any] | None = None
    model_tpm_limit: dict[str, Any] | None = None
    budget_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    allowed_routes: tuple[Any, ...] | None = None
    guardrails: tuple[Any, ...] | None = None
    key: str | None = None


class Keys(Struct):
    """The body of `/key/delete`."""

    keys: Annotated[tuple[Which, ...], Meta(max_length=100)] | None = None
    key_aliases: Annotated[tuple[Which, ...], Meta(max_length=100)] | None = None


class Key(Struct):
    """The body of `/key/block`, `/key/unblock` and `/key/regenerate`: a key or its token."""

    key: Which


class Shown(Struct, kw_only=True):
    """A key as LiteLLM shows it. `token` is its id; no `models` are all; nothing costs anything."""

    token: str
    key_name: str
    key_alias: str | None
    user_id: str
    models: tuple[str, ...]
    spend: float = 0.0
    max_budget: float | None = None
    rpm_limit: int | None
    tpm_limit: int | None
    max_parallel_requests: int | None
    blocked: bool
    expires: str | None
    created_at: str | None
    metadata: dict[str, Any] = {}


class Made(Shown, kw_only=True):
    """A new key, shown this once."""

    key: str
    token_id: str


class Info(Struct):
    """The answer of `/key/info`."""

    key: str
    info: Shown


class Deleted(Struct):
    """What `/key/delete` was given."""

    deleted_keys: tuple[str, ...]


class Listed(Struct):
    """A page of `/key/list`: tokens or, with `return_full_object=true`, keys as they are shown."""

    keys: tuple[str | Shown, ...]
    total_count: int
    current_page: int
    total_pages: int


NO_BUDGETS = "This gateway counts no money. Bound the key with rpm_limit, tpm_limit or max_parallel_requests."
REFUSED: Mapping[str, str] = {
    "max_budget": NO_BUDGETS,
    "soft_budget": NO_BUDGETS,
    "model_max_budget": NO_BUDGETS,
    "budget_id": NO_BUDGETS,
    "model_rpm_limit": "Limits of a model are the gateway's settings, for all keys.",
    "model_tpm_limit": "Limits of a model are the gateway's settings, for all keys.",
    "team_id": "This gateway has no teams. Give the keys one user_id: its keys count together.",
    "organization_id": "This gateway has no organizations. Give the keys one user_id: its keys count together.",
    "allowed_routes": "A key is for every route of its models.",
    "guardrails": "This gateway has no guardrails.",
    "key": "A key is made here, never chosen.",
}


def check(asked: GenerateKey) -> None:
    """Raises Failure: 400 for what a key cannot have here."""
    for name, why in REFUSED.items():
        if getattr(asked, name) not in (None, {}, ()):
            raise Failure(400, f"{name}: {why}", param=name)
    if asked.key_type not in (None, "default", "llm_api"):
        raise Failure(400, f'key_type: a key is for the models alone, so "llm_api", and not "{asked.key_type[:64]}".', param="key_type")


def models_of(asked: GenerateKey, configuration: Configuration) -> tuple[str, ...] | None:
    """None: all. Raises Failure: 400 for a name that is no model's."""
    if not asked.models or ALL_MODELS & set(asked.models):
        return None
    names = [name for model, entry in configuration.models.items() for name in (model, *entry.aliases)]
    for name in asked.models:
        if name not in names:
            raise Failure(400, f'models: there is no model "{name}".{nearest(name, names)}', param="models")
    return tuple(dict.fromkeys(asked.models))


def limits_of(asked: GenerateKey) -> Limits | None:
    """None where none is asked for: the user's own, or the gateway's default."""
    if asked.rpm_limit is asked.tpm_limit is asked.max_parallel_requests is None:
        return None
    return Limits(requests=asked.rpm_limit, tokens=asked.tpm_limit, window_s=60, parallel=asked.max_parallel_requests)


def expiry_of(asked: GenerateKey) -> float | None:
    """`30d` from now, in seconds since 1970; a month (`mo`) has 30 days. None: never. Raises Failure: 400."""
    if asked.duration in (None, "", "permanent"):
        return None
    found = re.fullmatch(r"(\d{1,9})(s|m|h|d|w|mo)", asked.duration or "", re.ASCII)
    seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_S:
        raise Failure(400, 'duration: write a number and a unit, as "30s", "30m", "30h", "30d", "4w" or "6mo".', param="duration")
    return time.time() + seconds


async def user_of(asked: GenerateKey, users: Users) -> str:
    """The user that the key is for: `user_id`, else one of its own, named as the key.

    In LiteLLM limits are a key's and here a user's, so a key without `user_id` gets a user to itself. Raises Failure: 400 where the alias
    is taken, as there.
    """
    if asked.key_alias:
        taken = [record for record in await users.list() if asked.key_alias in (record.label, "" if asked.user_id else record.user)]
        if taken:
            raise Failure(400, f'Key with alias "{asked.key_alias}" already exists: an alias names one key alone.', param="key_alias")
    return asked.user_id or asked.key_alias or f"key-{secrets.token_hex(6)}"


async def named(alias: str, users: Users) -> KeyRecord:
    """Raises Failure: 404."""
    found = [record for record in await users.list() if record.label == alias]
    if not found:
        raise Failure(404, f'There is no key with the alias "{alias}".', param="key_aliases")
    return found[0]


def shown(record: KeyRecord) -> Shown:
    return Shown(**_shown(record))


def made(key: str, record: KeyRecord) -> Made:
    return Made(**_shown(record), key=key, token_id=record.id)


def _shown(record: KeyRecord) -> dict[str, Any]:
    limits = record.limits or Limits()
    return {
        "token": record.id,
        "key_name": record.hint,
        "key_alias": record.label or None,
        "user_id": record.user,
        "models": record.models or (),
        "rpm_limit": _a_minute(limits.requests, limits.window_s),
        "tpm_limit": _a_minute(limits.tokens, limits.window_s),
        "max_parallel_requests": limits.parallel,
        "blocked": record.disabled,
        "expires": _moment(record.expires),
        "created_at": _moment(record.created),
    }


def _a_minute(limit: int | None, window_s: int) -> int | None:
    return None if limit is None else max(1, limit * 60 // window_s)


def _moment(seconds: float | None) -> str | None:
    """In ISO 8601, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat()
