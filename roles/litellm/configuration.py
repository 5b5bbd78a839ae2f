"""LiteLLM's config.yaml, and what its `custom_auth` reads: data, which is written out. No secret is in it but by the name of a variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from roles.litellm.settings import WINDOW_S, LitellmSettings
from roles.offer import Offered, allowed, key_digest
from roles.preset import purpose
from roles.server import Server
from roles.users import UserLimits

USER_OF = "paddock_litellm.auth.user_of"
MASTER_KEY, SALT_KEY, PEPPER = "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "PADDOCK_PEPPER"

MODES = {"chat": "chat", "embedding": "embedding"}

SHARED = {"requests": "rpm", "tokens": "tpm", "parallel": "max_parallel_requests"}
"""A model's limits, as LiteLLM calls them. It counts each by deployment."""


def configuration(
    where: str, settings: LitellmSettings, models: Sequence[Offered], urls: Mapping[str, str], fleet: Fleet
) -> Mapping[str, Any]:
    """config.yaml; `urls` are of the servers, by host and name. Raises PaddockError for what LiteLLM cannot do."""
    together = settings.global_limits.parallel
    return {
        "model_list": [each for offer in models for each in _deployments(where, offer, urls, fleet)],
        "router_settings": {
            "model_group_alias": {alias: offer.name for offer in models for alias in offer.aliases},
            "routing_strategy": settings.routing,
            "num_retries": settings.health.retries,
            "retry_after": 0,
            "allowed_fails": settings.health.failures - 1,
            "cooldown_time": settings.health.cooldown_s,
            "timeout": settings.timeout_s,
            "enable_pre_call_checks": True,
            "optional_pre_call_checks": ["enforce_model_rate_limits"],
        },
        "litellm_settings": {
            "telemetry": False,
            **({"success_callback": ["langfuse"], "failure_callback": ["langfuse"]} if settings.langfuse else {}),
            **({"callbacks": ["prometheus"], "require_auth_for_metrics_endpoint": False} if settings.metrics else {}),
        },
        "general_settings": {
            "master_key": f"os.environ/{MASTER_KEY}",
            "custom_auth": USER_OF,
            # They would ask each model for tokens, and wake those that sleep.
            "background_health_checks": False,
            **({"global_max_parallel_requests": together} if together else {}),
        },
    }


def _deployments(where: str, offer: Offered, urls: Mapping[str, str], fleet: Fleet) -> Iterator[Mapping[str, Any]]:
    limits = [(name, said) for name in SHARED if (said := getattr(offer.limits, name)) is not None]
    for name, said in limits:
        if said < len(offer.servers):
            words = f"LiteLLM shares {said} out among {len(offer.servers)} servers, and one would get none"
            raise PaddockError(f"{where}.models.{offer.name}.limits.{name}: {words}: allow {len(offer.servers)} or more")
    for number, server in enumerate(offer.servers):
        mode = purpose(fleet.preset(server, offer.model))
        if mode not in MODES:
            words = f"{offer.model} ranks documents, which LiteLLM asks no llama-server for"
            raise PaddockError(f"{where}: {words}: name the other models in models, or use the role gateway")
        yield {
            "model_name": offer.name,
            "litellm_params": {
                "model": f"openai/{offer.model}",
                "api_base": urls[backend(server)],
                "api_key": f"os.environ/{key_variable(server)}" if server.api_key else "none",
                **{SHARED[name]: share(said, len(offer.servers), number) for name, said in limits},
            },
            "model_info": {"id": f"{offer.name}@{backend(server)}", "mode": MODES[mode]},
        }


def share(total: int, parts: int, number: int) -> int:
    """What the part of this number, from 0, gets of a total: `share(35, 3, 0)` is 12, and all are 35 together."""
    return total // parts + (number < total % parts)


def backend(server: Server) -> str:
    """`rig/chat-1`"""
    return f"{server.host}/{server.name}"


def key_variable(server: Server) -> str:
    """The variable with the key of a server: `PADDOCK_KEY_API_KEY_RIG`."""
    return "PADDOCK_KEY_" + "".join(each if each.isalnum() else "_" for each in server.key_name).upper()


def access(
    where: str, settings: LitellmSettings, models: Sequence[Offered], urls: Mapping[str, str], fleet: Fleet, knowledge: Knowledge
) -> Mapping[str, Any]:
    """What paddock_litellm.auth reads of users, by their keys' digests, and of servers that others can stand in for."""
    users = list(_users(where, settings, models, fleet, knowledge))
    asked_first = [urls[each].removeprefix("http://").removesuffix("/v1") for each in _replaceable(models)]
    return {"users": users, "replaceable": asked_first}


def _replaceable(models: Sequence[Offered]) -> Iterator[str]:
    """Servers each of whose models another one has too. A request for a model that no other has waits while its server starts anew."""
    alone = {backend(offer.servers[0]) for offer in models if len(offer.servers) == 1}
    yield from dict.fromkeys(name for offer in models for each in offer.servers if (name := backend(each)) not in alone)


def _users(
    where: str, settings: LitellmSettings, models: Sequence[Offered], fleet: Fleet, knowledge: Knowledge
) -> Iterator[Mapping[str, Any]]:
    names = {offer.name: (offer.name, *offer.aliases) for offer in models}
    for name, user in fleet.users.items():
        limits = user.limits or settings.default_limits
        if limits.window_s != WINDOW_S and limits != UserLimits(window_s=limits.window_s):
            raise PaddockError(f"users.{name}.limits.window_s: LiteLLM, at {where}, counts by the minute: leave window_s out")
        own = allowed(user, models, fleet)
        yield {
            "name": name,
            "digest": key_digest(name, knowledge),
            "models": None if own is None else [each for model in own for each in names[model]],
            "rpm": limits.requests,
            "tpm": limits.tokens,
            "parallel": limits.parallel,
            "expires": user.expires_at,
        }
