"""`/keys/generate`: keys without a key, for callers from the networks that the settings name."""

from __future__ import annotations

import time
from collections import deque
from ipaddress import ip_network
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from paddock_gateway.apis.answers import failing_as, json
from paddock_gateway.apis.body import detail, read
from paddock_gateway.apis.caller import Network, administrator, comes_from, has_key
from paddock_gateway.contract import Parts
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Pi, SettingsError

LABEL = "keys/generate"
"""Of keys that this route made."""
AN_OWNER = 16
"""Keys at most."""
A_MINUTE = 10
"""Keys at most, of all callers."""


class Owner(Struct):
    """The body. The owner becomes the user's name."""

    owner: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NewKey(Struct):
    """`created_at` is in seconds since 1970."""

    api_key: str
    owner: str
    created_at: int


def add_routes(app: web.Application, parts: Parts, settings: Pi) -> None:
    """Raises SettingsError where a network is none."""
    networks = _networks(settings)
    made: deque[float] = deque(maxlen=A_MINUTE)

    @failing_as(detail)
    async def generate(request: web.Request) -> web.StreamResponse:
        if "Origin" in request.headers or not comes_from(request, networks):  # a page in a browser here is no device here
            if not has_key(request):
                raise _refusal(settings)
            await administrator(request, parts)
        asked = await read(request, parts, Owner)
        now = time.monotonic()
        if len(made) == A_MINUTE and now - made[0] < 60:
            raise Failure(429, f"At most {A_MINUTE} keys are made in a minute.", "too_many_keys", retry_after_s=60 - (now - made[0]))
        made.append(now)
        again = await _has_keys_of_this_route(asked.owner, parts)
        key, record = await parts.users.create(asked.owner, label=LABEL, new=not again)
        return json(NewKey(key, record.user, int(record.created)))

    app.router.add_post("/keys/generate", generate)


def _networks(settings: Pi) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(said, strict=False) for said in (settings.keys_generate.networks if settings.keys_generate else ()))
    except ValueError as error:
        raise SettingsError(f"pi.keys_generate.networks: {error}: write it as 192.0.2.0/24") from None


def _refusal(settings: Pi) -> Failure:
    if settings.keys_generate is None:
        return Failure(401, "This gateway makes no keys for callers without one: ask its administrator.", "keys_generate_off")
    return Failure(403, "Keys are made for callers from the gateway's own networks alone: ask its administrator.", "not_from_here")


async def _has_keys_of_this_route(owner: str, parts: Parts) -> bool:
    """A stranger gets no key of somebody else: an owner is either no user yet, or has keys, all of which this route made and none of which
    is disabled. One whose keys were all revoked is a user still, and gets none.

    Raises Failure: 409.
    """
    records = await parts.users.list(owner)
    if any(record.label != LABEL or record.declared or record.admin or record.disabled for record in records):
        raise Failure(409, f'"{owner}" is a user of this gateway: choose another name.', "owner_taken")
    if len(records) >= AN_OWNER:
        raise Failure(409, f'"{owner}" has {AN_OWNER} keys already: have one revoked first.', "too_many_keys")
    return bool(records)
