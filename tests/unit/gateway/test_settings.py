"""The gateway's configuration: its file, its schema, and what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock_gateway import settings

LEAST = {
    "listen": ["127.0.0.1:8001"],
    "database": "sqlite:/var/lib/paddock-gateway/gateway.db",
    "pepper_file": "/etc/paddock/gateway/pepper",
    "state": "/var/lib/paddock-gateway",
    "backends": {"one": {"url": "http://127.0.0.1:8080"}},
    "models": {"qwen": {"targets": [{"backend": "one", "model": "qwen-3b"}], "aliases": ["default"]}},
}
DIGEST = "0" * 64


def test_the_schema_is_that_of_the_types() -> None:
    written = Path(settings.__file__).with_name("configuration.schema.json").read_text()
    assert json.loads(written) == json.loads(json.dumps(msgspec.json.schema(settings.Configuration)))


def test_a_least_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text(json.dumps(LEAST))
    assert settings.configuration(tmp_path / "gateway.json").models["qwen"].aliases == ("default",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"listn": []}, "unknown field `listn`"),
        ({"backends": {"one": {"url": "ftp://one"}}}, "backends"),
        ({"backends": {}}, "there is no back end 'one'"),
        ({"pi": {"model": "gemma"}}, "there is no model 'gemma'"),
        ({"users": [{"name": "ann", "digest": DIGEST}, {"name": "ann", "digest": DIGEST}]}, "stands there twice"),
        ({"users": [{"name": "ann", "digest": DIGEST, "models": ["gemma"]}]}, "users.ann: there is no model 'gemma'"),
        ({"users": [{"name": "ann", "digest": "sk-secret"}]}, "users"),
        ({"queue": {"length": 0}}, "queue.length"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(LEAST | change))
    with pytest.raises(settings.SettingsError, match=told):
        settings.configuration(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_configuration_is_told_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gateway.json"
    path.write_bytes(content)
    with pytest.raises(settings.SettingsError, match=r"gateway\.json: ") as told:
        settings.configuration(path)
    assert "\n" not in str(told.value)
