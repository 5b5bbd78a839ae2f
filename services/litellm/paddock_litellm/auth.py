"""Who may call: LiteLLM asks `user_of` for each request (`custom_auth`). Keys are known by their digests alone.

`/etc/paddock/litellm/access.json`, which PADDOCK_LITELLM_ACCESS names: {"users": [{"name", "digest", "models", "rpm", "tpm", "parallel",
"expires"}], "sockets": {HOST: PATH}, "replaceable": [HOST or ADDRESS:PORT]}. A digest is HMAC-SHA256 of the key with PADDOCK_PEPPER, in
hex; `models` null is all, `expires` is seconds since 1970. A server is replaceable where another has each of its models too.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from pathlib import Path
from typing import Any

import litellm
from fastapi import HTTPException, Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from litellm.proxy.common_utils.http_parsing_utils import _read_request_body

from paddock_litellm.sockets import by_sockets

REFUSED = "this key is not known here, or has expired"

_access: dict[str, Any] = json.loads(Path(os.environ["PADDOCK_LITELLM_ACCESS"]).read_text(encoding="utf-8"))
_pepper = os.environ["PADDOCK_PEPPER"].encode()
_users = {each["digest"]: each for each in _access["users"]}
_master = os.environ["LITELLM_MASTER_KEY"].encode()

# LiteLLM loads this module while it starts, before it asks any server.
litellm.aclient_session = by_sockets(_access["sockets"], _access["replaceable"])


async def user_of(request: Request, api_key: str | None) -> UserAPIKeyAuth:
    """The user of a key, with the limits that LiteLLM is to keep. Raises HTTPException: 401 for a key that nobody has, 403 for a model that
    is not the user's."""
    key = (api_key or "").removeprefix("Bearer ").encode()  # LiteLLM gives None where there is none
    if hmac.compare_digest(key, _master):
        return UserAPIKeyAuth(api_key="master", user_id="master", user_role=LitellmUserRoles.PROXY_ADMIN)
    user = _users.get(hmac.digest(_pepper, key, "sha256").hex())
    if user is None or (user["expires"] is not None and user["expires"] <= time.time()):
        raise HTTPException(status_code=401, detail=REFUSED)
    if user["models"] is not None and request.method == "POST":
        asked = (await _read_request_body(request)).get("model")
        if asked is not None and asked not in user["models"]:
            raise HTTPException(status_code=403, detail="this model is not among those of the key")
    return UserAPIKeyAuth(
        api_key=user["name"],
        user_id=user["name"],
        models=user["models"] or [],
        rpm_limit=user["rpm"],
        tpm_limit=user["tpm"],
        max_parallel_requests=user["parallel"],
        user_role=LitellmUserRoles.INTERNAL_USER,
    )
