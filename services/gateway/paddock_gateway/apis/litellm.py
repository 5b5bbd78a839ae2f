"""LiteLLM's management calls: `/key/…`, `/model/info`, `/health/liveliness` and `/health/readiness`, so that its `curl` lines work here."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from aiohttp import web

from paddock_gateway.apis.admin import unready
from paddock_gateway.apis.answers import failing_as, json
from paddock_gateway.apis.body import read
from paddock_gateway.apis.caller import account_with
from paddock_gateway.apis.litellm_keys import (
    Deleted,
    GenerateKey,
    Info,
    Key,
    Keys,
    Listed,
    check,
    expiry_of,
    limits_of,
    made,
    models_of,
    named,
    shown,
    user_of,
)
from paddock_gateway.contract import Account, Parts
from paddock_gateway.errors import Failure
from paddock_gateway.metrics import KeepsFigures
from paddock_gateway.proxy.credentials import key_of
from paddock_gateway.settings import SettingsError

TYPES = {401: "auth_error", 403: "auth_error", 404: "not_found_error", 429: "rate_limit_error", 501: "not_supported_error"}
OFF = "This gateway makes no keys in LiteLLM's way: its settings name no master_key_file."
PAGE = 100
"""Keys of a page at most."""


def error(failure: Failure) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`; the code is the status in quotes: litellm/proxy/_types.py, ProxyException."""
    kind = TYPES.get(failure.status, "bad_request_error" if failure.status < 500 else "internal_server_error")
    return {"error": {"message": failure.message, "type": kind, "param": failure.param or None, "code": str(failure.status)}}


def add_routes(app: web.Application, parts: Parts) -> None:
    """Raises SettingsError where the master key cannot be read."""
    master = _master_key(parts.configuration.master_key_file)

    def is_master(key: str) -> bool:
        return master is not None and hmac.compare_digest(key.encode(errors="replace"), master)

    async def admitted(request: web.Request) -> None:
        """The master key, or an administrator's."""
        if master is None:
            raise Failure(501, OFF)
        key = key_of(request.headers, request.query)
        if not is_master(key) and not (await account_with(key, parts)).admin:
            raise Failure(403, "Only the master key and keys of administrators manage keys.")

    @failing_as(error)
    async def generate(request: web.Request) -> web.StreamResponse:
        await admitted(request)
        asked = await read(request, parts, GenerateKey)
        check(asked)
        models, limits, expires = models_of(asked, parts.configuration), limits_of(asked), expiry_of(asked)
        user = await user_of(asked, parts.users)
        key, record = await parts.users.create(
            user, label=asked.key_alias or "", models=models, limits=limits, expires=expires, new=asked.user_id is None
        )
        if asked.blocked:
            record = await parts.users.set_disabled(record.id, True)
        return json(made(key, record))

    @failing_as(error)
    async def info(request: web.Request) -> web.StreamResponse:
        if master is None:
            raise Failure(501, OFF)
        which = request.query.get("key", "")  # LiteLLM's way; of all routes this one alone takes a key there
        own = key_of(request.headers, ())
        account = None if is_master(own) else await account_with(own, parts)
        if not which:
            if account is None:
                raise Failure(400, "Name the key: /key/info?key=…, with the key or its token.", param="key")
            record = await parts.users.show(account.key)
            return json(Info(record.id, shown(record)))
        if account and not account.admin and which not in (account.key, own):
            raise Failure(403, "Only the master key and keys of administrators show other keys.")
        return json(Info(which, shown(await parts.users.show(which))))

    @failing_as(error)
    async def delete(request: web.Request) -> web.StreamResponse:
        """All of them or, where one is unknown or declared, none."""
        await admitted(request)
        asked = await read(request, parts, Keys)
        if not asked.keys and not asked.key_aliases:
            raise Failure(400, "Name the keys: keys, with the keys or their tokens, or key_aliases.", param="keys")
        records = [await parts.users.show(which) for which in asked.keys or ()]
        records += [await named(alias, parts.users) for alias in asked.key_aliases or ()]
        for record in records:
            if record.declared:
                raise Failure(409, f'The inventory declares the key of "{record.user}": take it out there.')
        for identity in dict.fromkeys(record.id for record in records):
            await parts.users.revoke(identity)
        return json(Deleted((*(asked.keys or ()), *(asked.key_aliases or ()))))

    def blocking(disabled: bool) -> Any:
        @failing_as(error)
        async def answer(request: web.Request) -> web.StreamResponse:
            await admitted(request)
            asked = await read(request, parts, Key)
            return json(shown(await parts.users.set_disabled(asked.key, disabled)))

        return answer

    @failing_as(error)
    async def regenerate(request: web.Request) -> web.StreamResponse:
        await admitted(request)
        asked = await read(request, parts, Key)
        return json(made(*await parts.users.rotate(asked.key)))

    @failing_as(error)
    async def show_all(request: web.Request) -> web.StreamResponse:
        await admitted(request)
        page, size = _number(request, "page", 1, 10**6), _number(request, "size", 10, PAGE)
        records = await parts.users.list(request.query.get("user_id"))
        if alias := request.query.get("key_alias"):
            records = [record for record in records if record.label == alias]
        whole = request.query.get("return_full_object", "").lower() in ("true", "1")
        here = records[(page - 1) * size : page * size]
        keys = tuple(shown(record) if whole else record.id for record in here)
        return json(Listed(keys, len(records), page, -(-len(records) // size)))

    @failing_as(error)
    async def models(request: web.Request) -> web.StreamResponse:
        key = key_of(request.headers, request.query)
        account = None if is_master(key) else await account_with(key, parts)
        return json({"data": _models(parts, account)})

    async def liveliness(request: web.Request) -> web.StreamResponse:
        return json("I'm alive!")

    async def readiness(request: web.Request) -> web.StreamResponse:
        why = unready(parts)
        up = not isinstance(parts.log, KeepsFigures) or not parts.log.figures().away
        answer = {"status": "unhealthy" if why else "healthy", "db": "connected" if up else "Not connected", "cache": None}
        return json({**answer, "detail": why} if why else answer, status=503 if why else 200)

    for path, handler in (("generate", generate), ("delete", delete), ("block", blocking(True)), ("unblock", blocking(False))):
        app.router.add_post(f"/key/{path}", handler)
    app.router.add_post("/key/regenerate", regenerate)
    app.router.add_get("/key/info", info)
    app.router.add_get("/key/list", show_all)
    for version in ("", "/v1"):
        app.router.add_get(f"{version}/model/info", models)
    for path in ("liveliness", "liveness"):
        app.router.add_get(f"/health/{path}", liveliness)
    app.router.add_get("/health/readiness", readiness)


def _master_key(file: str) -> bytes | None:
    if not file:
        return None
    try:
        key = Path(file).read_bytes().strip()
    except OSError as failed:
        raise SettingsError(f"master_key_file: {file}: {failed.strerror}") from None
    if not key:
        raise SettingsError(f"master_key_file: {file} is empty")
    return key


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    said = request.query.get(name, str(default))
    if not (said.isascii() and said.isdigit() and len(said) < 10 and 1 <= int(said) <= most):
        raise Failure(400, f"{name}: a number from 1 to {most}.", param=name)
    return int(said)


def _models(parts: Parts, account: Account | None) -> list[dict[str, Any]]:
    """A model each by its public id, with its aliases; its back ends are nobody's business."""
    return [
        {
            "model_name": model,
            "litellm_params": {"model": f"openai/{model}"},
            "model_info": {
                "id": model,
                "db_model": False,
                "max_tokens": parts.upstream.context(model) or None,
                "max_input_tokens": parts.upstream.context(model) or None,
                "aliases": list(entry.aliases),
            },
        }
        for model, entry in parts.configuration.models.items()
        if account is None or account.models is None or account.models & {model, *entry.aliases}
    ]
