"""Models by the names that callers use: ids and aliases, and which of them an account may use."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from paddock_gateway.contract import Account, nearest
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration, Model


class Models:
    def __init__(self, configuration: Configuration) -> None:
        self._models: Mapping[str, Model] = configuration.models
        self._ids = {name: model for model, entry in self._models.items() for name in (model, *entry.aliases)}
        self._created = int(time.time())

    def __getitem__(self, model: str) -> Model:
        return self._models[model]

    def named(self, name: str) -> Model:
        """By its id or an alias."""
        return self._models[self._ids[name]]

    def allowed(self, account: Account) -> list[str]:
        """The ids of the models that it may use. Whoever may use one name of a model may use it by all of them."""
        if account.models is None:
            return list(self._models)
        wanted = {self._ids[name] for name in account.models if name in self._ids}
        return [model for model in self._models if model in wanted]

    def find(self, name: str | None, account: Account) -> str:
        """The id. A request without a model gets the only one that its account may use, as llama-server answers it. Raises Failure: 400
        without a name, 404 for an unknown one. A model that others may use is as unknown: 403 would tell its name to who guesses it.
        """
        allowed = self.allowed(account)
        names = [each for model in allowed for each in (model, *self._models[model].aliases)]
        if name is None:
            if len(allowed) == 1:
                return allowed[0]
            raise Failure(400, f'The request names no model. Set "model" to one of: {_list(names)}.', "no_model", param="model")
        if self._ids.get(name) in allowed:
            return self._ids[name]
        near = nearest(name[:256], names)
        more = near or (f" There are: {_list(names)}." if names else " This key may use no model.")
        raise Failure(404, f'There is no model "{name[:256]}" for this key.{more}', "model_not_found", param="model")

    def listed(self, account: Account, meta: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The entries of OpenAI's list, with llama-server's fields. `meta` is (back end, id there) → what the back end says of the model.
        An alias has an entry of its own, so that programs that look for it in the list find it."""
        data = []
        for model in self.allowed(account):
            entry = self._models[model]
            said: dict[str, Any] = {}
            for target in entry.targets:
                said = said or dict(meta.get((target.backend, target.model), {}))
            if entry.context:
                said["n_ctx"] = entry.context
            for name in (model, *entry.aliases):
                others = [other for other in (model, *entry.aliases) if other != name]
                shown = {"id": name, "aliases": others, "tags": [], "object": "model", "created": self._created, "owned_by": "llamacpp"}
                data.append({**shown, "meta": said} if said else shown)
        return data


def _list(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
