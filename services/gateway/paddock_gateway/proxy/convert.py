"""Which requests go up as another API's: Messages as chat completions, so that `id_slot` and `cache_prompt` hold; functions as tools."""

from __future__ import annotations

from paddock_gateway.convert.converter import CONVERTERS, Converter
from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.functions import Functions, is_legacy
from paddock_gateway.proxy.routes import Route


def converter(route: Route, body: Body) -> Converter | None:
    if route.kind == "chat" and is_legacy(body):
        return Functions()
    return CONVERTERS.get(route.path)
