"""Langfuse as a stack: every secret generated, none in compose.yml, nothing published but its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import UNOPENED, File, Resource, Stack, of_kind
from roles.langfuse.plan import plan, remarks
from roles.langfuse.settings import MADE, LangfuseSettings, secret_name
from roles.tracing import public_key

DIRECTORY = "/etc/paddock/stacks/langfuse"
IMAGES = {name: f"docker.io/example/{name}:1@sha256:{'a' * 64}" for name in ("web", "worker", "postgres", "clickhouse", "valkey", "store")}
SAID: Mapping[str, Any] = {"images": IMAGES, "email": "ann@home.example"}
KEYS = {secret_name(what, "prod"): f"sk-of-{what}-{'x' * 40}" for what in MADE}


def planned(keys: Mapping[str, str] = KEYS, **said: Any) -> list[Resource]:
    hosts = {"prod": {"name": "prod", "address": "192.0.2.152", "roles": {"docker": {}, "langfuse": {**SAID, **said}}}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})
    host = fleet.hosts["prod"]
    return list(plan(host, host.carried["langfuse"], fleet, Knowledge(secrets=keys)))  # type: ignore[arg-type]


def files(resources: list[Resource]) -> dict[str, File]:
    return {each.path.removeprefix(f"{DIRECTORY}/"): each for each in of_kind(resources, File)}


def services(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    said: dict[str, dict[str, Any]] = yaml.safe_load(files(resources)["compose.yml"].data)["services"]
    return said


def declared(resources: list[Resource]) -> dict[str, str]:
    (stack,) = of_kind(resources, Stack)
    return {each.name: each.declared for each in stack.containers}


def test_no_secret_is_in_compose_yml_and_files_with_one_are_for_root_alone() -> None:
    made = files(planned())
    assert not any(key.encode() in made["compose.yml"].data for key in KEYS.values())
    with_one = {name for name, file in made.items() if any(key.encode() in file.data for key in KEYS.values())}
    assert with_one == {"shared.env", "web.env", "postgres-password", "store-password"}
    assert all(made[name].secret and made[name].mode == 0o600 for name in with_one)


def test_only_its_page_is_published_at_the_address_meant() -> None:
    published = {name: one["ports"] for name, one in services(planned(listen="192.0.2.152:3001")).items() if "ports" in one}
    assert list(published) == ["web"]
    assert [(each["host_ip"], each["published"], each["target"]) for each in published["web"]] == [("192.0.2.152", "3001", 3000)]


def test_nobody_signs_up_and_nothing_is_reported_home() -> None:
    web = services(planned())["web"]["environment"]
    assert (web["AUTH_DISABLE_SIGNUP"], web["TELEMETRY_ENABLED"], web["LANGFUSE_INIT_USER_EMAIL"]) == ("true", "false", "ann@home.example")


def test_the_encryption_key_is_256_bits_in_hex() -> None:
    values = dict(line.split("=", 1) for line in files(planned())["shared.env"].data.decode().splitlines())
    assert len(bytes.fromhex(values["ENCRYPTION_KEY"])) == 32
    assert values["DATABASE_URL"].startswith("postgresql://langfuse:sk-of-postgres-")


def test_the_first_project_has_the_pair_of_keys_that_others_are_told() -> None:
    values = dict(line.split("=", 1) for line in files(planned())["web.env"].data.decode().splitlines())
    where = LangfuseSettings.model_validate({**SAID, "url": "https://traces.home.example/"}).tracing("prod")
    assert where.url == "https://traces.home.example"
    assert values["LANGFUSE_INIT_PROJECT_SECRET_KEY"] == KEYS[where.key_name]
    assert values["LANGFUSE_INIT_PROJECT_PUBLIC_KEY"] == public_key(KEYS[where.key_name])


@pytest.mark.parametrize(
    ("what", "anew"),
    [
        ("session", {"web"}),
        ("key", {"web"}),
        ("postgres", {"postgres", "web", "worker"}),
        ("clickhouse", {"clickhouse", "web", "worker"}),
        ("valkey", {"valkey", "web", "worker"}),
        ("store", {"store", "web", "worker"}),
    ],
)
def test_another_value_of_a_secret_makes_anew_what_reads_it_and_nothing_else(what: str, anew: set[str]) -> None:
    before = declared(planned())
    after = declared(planned({**KEYS, secret_name(what, "prod"): "sk-another-" + "y" * 40}))
    assert {name for name in before if before[name] != after[name]} == anew


def test_every_container_has_a_memory_limit_a_health_check_and_no_capability_that_it_does_not_need() -> None:
    said = services(planned(memory={"clickhouse": "4096m"}))
    assert all({"mem_limit", "healthcheck"} <= one.keys() and one["cap_drop"] == ["ALL"] for one in said.values())
    assert {name for name, one in said.items() if "cap_add" in one} == {"postgres"}
    assert {name for name, one in said.items() if not one.get("read_only")} == {"web", "worker"}
    assert said["clickhouse"]["mem_limit"] == "4096m"


def test_the_page_waits_for_all_that_keeps_data() -> None:
    said = services(planned())
    assert set(said["web"]["depends_on"]) == set(said["worker"]["depends_on"]) == {"postgres", "clickhouse", "valkey", "store"}


def test_an_image_without_a_digest_is_refused_with_the_way_to_one() -> None:
    with pytest.raises(ValidationError, match="`paddock artifacts pull --lock`"):
        LangfuseSettings.model_validate({**SAID, "images": {**IMAGES, "web": "docker.io/langfuse/langfuse:3"}})


def test_of_a_secret_that_nobody_here_opens_no_container_is_compared_that_reads_it() -> None:
    found = declared(planned({**KEYS, secret_name("valkey", "prod"): UNOPENED}))
    assert {name for name, digest in found.items() if digest == UNOPENED} == {"valkey", "web", "worker"}


def test_what_is_open_to_the_network_without_tls_is_said() -> None:
    said = {"prod": {"name": "prod", "address": "192.0.2.152", "roles": {"langfuse": {**SAID, "listen": "192.0.2.152:3000"}}}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": said})
    host = fleet.hosts["prod"]
    (words,) = remarks(host, host.carried["langfuse"], fleet, replace(Knowledge()))  # type: ignore[arg-type]
    assert "NOT ENCRYPTED" in words
