"""The models that are offered to users, each with the servers that answer, and the users to whom."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED, Knowledge
from resources import UNOPENED
from roles.front import PEPPER, PublicModel
from roles.preset import ON
from roles.server import ImageServer, Server
from roles.upstream import Upstream
from roles.users import User, UserLimits, user_key_name
from roles.wording import quoted

CACHES = ("cache-ram", "cram")
"""The cache of prompts in memory. llama-server may restore another's conversation from it (ggml-org/llama.cpp#27148)."""

IDLE = "cache-idle-slots"
"""Puts what an idle slot holds into that cache."""

SHORTEST_PEPPER, SHORTEST_KEY = 32, 16


@dataclass(frozen=True)
class Offered:
    """A model as users ask for it: by `name` or one of its `aliases`; `model` is what the fleet calls it. Either `servers` answer, or
    `images` are made."""

    name: str
    model: str
    aliases: tuple[str, ...]
    limits: UserLimits
    servers: tuple[Server, ...]
    images: tuple[ImageServer, ...] = ()


def offered(
    where: str, models: Mapping[str, PublicModel], servers: Sequence[Server], fleet: Fleet, images: Sequence[ImageServer] = ()
) -> Iterator[Offered]:
    """All that `where`, a role of a host, offers; what its servers have, where it names nothing. Raises PaddockError where a name would be
    that of two, or a server keeps what its callers say."""
    taken: dict[str, str] = {}
    for name, entry in (models or _all(servers, images, fleet)).items():
        model = entry.model or name
        answering = tuple(each for each in servers if model in each.models and _is_among(each, entry.upstream, fleet))
        making = tuple(each for each in images if model in each.models and _makes(each, entry.upstream, fleet))
        if not answering and not making:
            raise PaddockError(f"{where}.models.{name}: no llama-server behind it serves {model}")
        for each in answering:
            for option, value in fleet.preset(each, model).items():
                if (option in CACHES and str(value) != "0") or (option == IDLE and str(value).lower() in ON):
                    words = "keeps what one user has said, and may give it to another: leave it out behind a gateway"
                    raise PaddockError(f"{where}: {model} on {each.host}: {quoted(option)} {words}")
        for public in (name, *entry.aliases):
            if (other := taken.setdefault(public, name)) != name:
                raise PaddockError(f"{where}.models: {quoted(public)} would be {name} and {other}: give each name to one model")
        yield Offered(name, model, entry.aliases, entry.limits, answering, making)


def _all(servers: Sequence[Server], images: Sequence[ImageServer], fleet: Fleet) -> Mapping[str, PublicModel]:
    """Each model that a server has, under its own name and aliases, and each that makes images."""
    names = dict.fromkeys(model for each in servers for model in each.models)
    text = {name: PublicModel(aliases=fleet.models[name].aliases) for name in names}
    return text | {model: PublicModel() for each in images for model in each.models if model not in text}


def _is_among(server: Server, upstream: Upstream | None, fleet: Fleet) -> bool:
    return upstream is None or server in fleet.every_behind(upstream)


def _makes(server: ImageServer, upstream: Upstream | None, fleet: Fleet) -> bool:
    return upstream is None or server in fleet.image_servers_behind(upstream)


def allowed(user: User, models: Sequence[Offered], fleet: Fleet) -> list[str] | None:
    """The public names of what a user may ask for, who names it by them or as the fleet does; None is all."""
    if user.models is None:
        return None
    return [each.name for each in models if not _names(each, fleet).isdisjoint(user.models)]


def _names(offer: Offered, fleet: Fleet) -> set[str]:
    own = fleet.models[offer.model].aliases if offer.model in fleet.models else ()
    return {offer.name, *offer.aliases, offer.model, *own}


def key_digest(user: str, knowledge: Knowledge) -> str:
    """HMAC-SHA256 of a declared user's key with the fleet's pepper, in hex; the placeholder where one of the two is not known."""
    pepper, key = knowledge.key(PEPPER, SHORTEST_PEPPER), knowledge.key(user_key_name(user), SHORTEST_KEY)
    for placeholder in (UNOPENED, TO_BE_ISSUED):
        if placeholder in (pepper, key):
            return placeholder
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()
