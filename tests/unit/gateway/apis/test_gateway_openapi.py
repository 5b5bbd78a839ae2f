"""The gateway's description of itself: valid, whole, and as its routes are."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import schemathesis
from aiohttp import web

from paddock_gateway.openapi import CALLS, add_routes, description
from paddock_gateway.proxy.routes import MODEL_LISTS, ROUTES
from tests.unit.gateway.apis.stubs import Stage, served


def shown(stage: Stage, application: web.Application | None = None) -> dict[str, Any]:
    async def go() -> dict[str, Any]:
        async with served(stage.parts, application) as client, client.get("/openapi.json") as response:
            assert response.status == 200
            found: dict[str, Any] = await response.json()
            return found

    return asyncio.run(go())


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(path, method) for path, methods in shown(Stage())["paths"].items() for method in methods}
    assert described == set(CALLS) - {("/metrics", "get")}  # which a gateway without metrics has not


def test_the_manual_names_every_route_and_no_other() -> None:
    page = (Path(__file__).parents[4] / "docs" / "gateway-api.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"/[\w./-]+", " ".join(rows))) == {path for path, _ in CALLS} | {*ROUTES, *MODEL_LISTS}


def test_what_the_gateway_has_not_is_not_described() -> None:
    assert "/generate" not in shown(Stage(pi=None))["paths"]


def test_what_is_passed_on_is_described_by_its_path() -> None:
    application = web.Application()

    async def nothing(request: web.Request) -> web.Response:
        return web.Response()

    application.router.add_post("/v1/embeddings", nothing)
    application.router.add_post("/{rest:.*}", nothing)
    add_routes(application, Stage().parts)
    paths = shown(Stage(), application)["paths"]
    assert set(paths) == {"/openapi.json", "/v1/embeddings"}


def test_the_bounds_of_generate_are_those_of_its_fields() -> None:
    fields = description([("/generate", "post")])["components"]["schemas"]["Generate"]["properties"]
    assert (fields["prompt"]["minLength"], fields["prompt"]["maxLength"]) == (1, 8192)
    assert (fields["top_k"]["minimum"], fields["top_k"]["maximum"], fields["top_k"]["default"]) == (1, 100, 40)


def test_the_description_is_one_that_schemathesis_reads(tmp_path: Path) -> None:
    whole = description(CALLS)
    for schema in whole["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    operations = list(schemathesis.openapi.from_dict(whole).get_all_operations())
    assert len(operations) == len(CALLS)
    assert all(operation.ok() for operation in operations)
