"""Servers of a host are restarted one after another where they stand in for each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.admin import actions
from services.admin.actions import Admin, turns
from services.admin.configuration import Server


def server(name: str, *models: str) -> Server:
    return Server(f"{name}.service", f"unix:/run/{name}.sock", models, router=False)


ONE, TWO, OTHER = server("one", "chat"), server("two", "chat", "sql"), server("other", "code")


def test_servers_with_a_model_in_common_take_turns_and_others_do_not_wait() -> None:
    assert turns((ONE, TWO, OTHER)) == [[ONE, OTHER], [TWO]]
    assert turns((ONE, OTHER)) == [[ONE, OTHER]]


def test_the_next_turn_begins_once_the_servers_of_the_one_before_let_callers_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = list[tuple[str, ...]]()
    monkeypatch.setattr(actions, "restart", lambda account, *units: happened.append(("restart", *units)))
    monkeypatch.setattr(actions, "until_healthy", lambda *servers, api_key: happened.append(("well", *(each.unit for each in servers))))
    said = Admin((ONE, TWO, OTHER), tmp_path / "presets.ini", notes=tmp_path, noticed_s=0).restart()
    assert happened == [
        ("restart", "one.service", "other.service"),
        ("well", "one.service", "other.service"),
        ("restart", "two.service"),
        ("well", "two.service"),
    ]
    assert said == {"restarted": ["one.service", "two.service", "other.service"]}
