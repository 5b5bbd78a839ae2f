"""A configuration of a gateway that is put back lets in whom the newest one lets in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock_gateway.__main__ import command
from paddock_gateway.settings import Configuration

MODELS = {"small": {"targets": [{"backend": "one", "model": "small"}], "aliases": ["s"]}}


def user(name: str, digit: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "digest": digit * 64, "models": None, "expires": None, **more}


def put_back(directory: Path, newest: list[dict[str, Any]], older: list[dict[str, Any]]) -> dict[str, Any]:
    """What the older configuration says then."""
    said = {
        "listen": ["127.0.0.1:1"],
        "database": "sqlite:/x",
        "pepper_file": "/x",
        "state": "/x",
        "backends": {"one": {"url": "http://a"}},
    }
    new, old = directory / "gateway.json", directory / "kept.json"
    more = {"large": {"targets": [{"backend": "one", "model": "large"}]}}
    new.write_text(json.dumps({**said, "models": {**MODELS, **more}, "users": newest}))
    old.write_text(json.dumps({**said, "models": MODELS, "users": older, "of an older version": 1}))
    old.chmod(0o640)
    assert command(["--configuration", str(new), "newest-users", str(old)]) == 0
    assert old.stat().st_mode & 0o777 == 0o640 and sorted(path.name for path in directory.iterdir()) == ["gateway.json", "kept.json"]
    found: dict[str, Any] = json.loads(old.read_text())
    assert found["of an older version"] == 1
    return found


def test_who_was_thrown_out_stays_out_and_a_new_key_is_the_one_that_counts(tmp_path: Path) -> None:
    found = put_back(tmp_path, [user("ann", "b", expires=5.0), user("carol")], [user("ann"), user("bob")])
    assert found["users"] == [user("ann", "b", expires=5.0), user("carol")]


def test_what_the_older_version_does_not_know_is_left_out(tmp_path: Path) -> None:
    found = put_back(tmp_path, [user("ann", models=["small", "large"], admin=True)], [user("ann")])
    assert found["users"] == [user("ann", models=["small"])]
    found = put_back(tmp_path, [user("ann", models=["large"])], [])
    assert found["users"] == [user("ann", models=[])], "no model, not all of them"
    msgspec.convert({key: value for key, value in found.items() if key != "of an older version"}, Configuration)


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_back(tmp_path, [], [])
    (tmp_path / "kept.json").write_text("[]")
    assert command(["--configuration", str(tmp_path / "gateway.json"), "newest-users", str(tmp_path / "kept.json")]) == 1
    assert "kept.json: it is no object" in capsys.readouterr().err
