"""An inventory is changed in place: what was asked for, and not one character more."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import yaml

from control.editing.candidate import candidate, read_text
from control.editing.text import Edit, edited, value_at
from inventory.errors import InventoryError, PaddockError
from inventory.load import load
from inventory.model_lock import ModelLock, Pin
from inventory.model_sources import ModelPart, ModelSource

TEXT = """\
# A fleet of somebody's own.
fleet:   mine                   # two spaces more than YAML needs
domain: home.example

hosts:
  ai:
    address: 192.0.2.7
    roles:
      base:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:                   # where the files lie
      llama_server:
        models: [chat, story,
                 embed]

# What is served.
models:
  chat:                         # the big one
    preset:                     # any long option
      ctx-size: 2048            # tokens
      temp: 0.7
    # The end of chat.

  story:
    preset: {ctx-size: 1024, temp: 0.7}   # in a flow

  embed:
    # Nothing is said of it.

  bare: {}

clients:
  laptop:
"""

CHAT, STORY = ("models", "chat", "preset"), ("models", "story", "preset")


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:1] in "+-"]


@pytest.mark.parametrize(
    ("path", "value", "difference"),
    [
        ((*CHAT, "ctx-size"), "16384", ["-       ctx-size: 2048            # tokens", "+       ctx-size: 16384           # tokens"]),
        ((*CHAT, "temp"), "0", ["-       temp: 0.7", "+       temp: 0"]),
        ((*CHAT, "top-k"), "40", ["+       top-k: 40"]),
        ((*CHAT, "temp"), None, ["-       temp: 0.7"]),
        (
            (*STORY, "ctx-size"),
            "65536",
            [
                "-     preset: {ctx-size: 1024, temp: 0.7}   # in a flow",
                "+     preset: {ctx-size: 65536, temp: 0.7}   # in a flow",
            ],
        ),
        (
            (*STORY, "top-k"),
            "40",
            [
                "-     preset: {ctx-size: 1024, temp: 0.7}   # in a flow",
                "+     preset: {ctx-size: 1024, temp: 0.7, top-k: 40}   # in a flow",
            ],
        ),
        (
            (*STORY, "ctx-size"),
            None,
            ["-     preset: {ctx-size: 1024, temp: 0.7}   # in a flow", "+     preset: {temp: 0.7}   # in a flow"],
        ),
        (
            (*STORY, "temp"),
            None,
            ["-     preset: {ctx-size: 1024, temp: 0.7}   # in a flow", "+     preset: {ctx-size: 1024}   # in a flow"],
        ),
        (("models", "embed", "preset", "ctx-size"), "512", ["+     preset: {ctx-size: 512}"]),
        (("models", "bare", "preset", "ctx-size"), "512", ["-   bare: {}", "+   bare: {preset: {ctx-size: 512}}"]),
        (
            ("hosts", "ai", "roles", "llama_server", "instances", "one", "preset", "c"),
            "512",
            ["+         instances: {one: {preset: {c: 512}}}"],
        ),
        (("clients", "laptop", "days"), "90", ["+     days: 90"]),
    ],
)
def test_only_what_was_asked_for_is_another_line(path: tuple[str, ...], value: str | None, difference: list[str]) -> None:
    after = edited(TEXT, [Edit(path, value)])
    assert [line for line in changed(TEXT, after) if not line.startswith("?")] == difference
    assert value_at(after, path) == (None if value is None else yaml.safe_load(value))


def test_a_preset_that_loses_its_last_option_goes_with_it() -> None:
    after = edited(TEXT, [Edit((*CHAT, "ctx-size"), None), Edit((*CHAT, "temp"), None)])
    assert value_at(after, CHAT) is None
    assert "  chat:                         # the big one\n    # The end of chat.\n" in after


def test_an_option_that_a_preset_does_not_have_is_gone_already() -> None:
    assert edited(TEXT, [Edit((*CHAT, "top-k"), None), Edit(("models", "embed", "preset", "top-k"), None)]) == TEXT


@pytest.mark.parametrize("value", ["a: b", "on # off", "null", "0o17", "1:30", "- x", "{x}", "*x", 'with "quotes"', " padded "])
def test_text_that_yaml_would_read_as_something_else_is_quoted(value: str) -> None:
    after = edited(TEXT, [Edit((*CHAT, "chat-template"), value)])
    assert value_at(after, (*CHAT, "chat-template")) == value
    assert yaml.safe_load(after)["models"]["chat"]["preset"]["chat-template"] == value


@pytest.mark.parametrize(
    ("value", "written"), [("on", "on"), ("q8_0", "q8_0"), ("/srv/template.jinja", "/srv/template.jinja"), ("-1", "-1")]
)
def test_what_needs_no_quotes_is_written_as_it_was_typed(value: str, written: str) -> None:
    assert f"      x: {written}\n" in edited(TEXT, [Edit((*CHAT, "x"), value)])


def test_line_ends_of_windows_and_a_byte_order_mark_stay() -> None:
    before = "\ufeff" + TEXT.replace("\n", "\r\n")
    after = edited(before, [Edit((*CHAT, "ctx-size"), "4096"), Edit((*CHAT, "top-k"), "40"), Edit((*STORY, "temp"), None)])
    assert after.startswith("\ufeff#") and "\n" not in after.replace("\r\n", "")
    assert value_at(after, CHAT) == {"ctx-size": 4096, "temp": 0.7, "top-k": 40}


def test_a_last_line_without_an_end_is_no_hindrance() -> None:
    after = edited(TEXT.rstrip("\n"), [Edit(("clients", "laptop", "days"), "90")])
    assert value_at(after, ("clients", "laptop", "days")) == 90


SHARED = """\
models:
  chat: &all
    preset: {ctx-size: 2048}
  story: *all
  embed:
    <<: *all
"""


@pytest.mark.parametrize("model", ["chat", "story"])
def test_what_is_shared_by_an_anchor_is_left_to_a_person(model: str) -> None:
    with pytest.raises(PaddockError, match=rf"models\.{model}\.preset\.ctx-size: .*: edit it by hand"):
        edited(SHARED, [Edit(("models", model, "preset", "ctx-size"), "4096")])


def test_what_was_merged_in_is_written_where_it_is_to_hold() -> None:
    after = edited(SHARED, [Edit(("models", "embed", "preset", "ctx-size"), "4096")])
    assert value_at(after, ("models",)) == {
        "chat": {"preset": {"ctx-size": 2048}},
        "story": {"preset": {"ctx-size": 2048}},
        "embed": {"preset": {"ctx-size": 4096}},
    }


def test_a_merged_preset_is_not_cut_down_to_its_new_option() -> None:
    with pytest.raises(PaddockError, match="edit it by hand"):
        edited(SHARED, [Edit(("models", "embed", "preset", "temp"), "0.5")])


def test_what_stands_where_a_mapping_is_wanted_is_told() -> None:
    with pytest.raises(PaddockError, match=r"fleet\.x: line 1 has no mapping: edit it by hand"):
        edited("fleet: mine\n", [Edit(("fleet", "x"), "1")])


def test_a_wrong_value_is_told_with_the_inventorys_own_name_and_place_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "inventories" / "home.yml"
    path.parent.mkdir()
    path.write_text(TEXT)
    with pytest.raises(InventoryError) as refused:
        candidate(path, edited(TEXT, [Edit((*CHAT, "host"), "192.0.2.9")]))
    assert f"{path}:22:7: models.chat.preset.host: " in str(refused.value)
    assert [each.name for each in path.parent.iterdir()] == ["home.yml"] and path.read_text() == TEXT


def test_the_fleet_that_it_would_be_has_what_the_lock_says_of_its_models(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(before := TEXT.replace("bare: {}", "bare: {source: {hf: somebody/model, file: model.gguf}}"))
    source = load(path).models["bare"].source
    assert isinstance(source, ModelSource)
    part = ModelPart(name="model.gguf", sha256="ab" * 32, size=7)
    (tmp_path / "home.models.lock").write_text(ModelLock(models={"bare": Pin(source=source.asked, revision="c" * 40, files=(part,))}).text)
    locked = candidate(path, edited(before, [Edit((*CHAT, "ctx-size"), "4096")])).fleet.models["bare"].source
    assert isinstance(locked, ModelSource) and locked.digests == (part,)


def test_what_is_kept_has_the_mode_and_the_line_ends_that_the_file_had(tmp_path: Path) -> None:
    path, linked = tmp_path / "home.yml", tmp_path / "linked.yml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    linked.symlink_to(path)
    kept = candidate(linked, edited(read_text(linked), [Edit((*CHAT, "ctx-size"), "4096")]))
    assert kept.fleet.models["chat"].preset["ctx-size"] == 4096
    kept.keep()
    assert linked.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes().count(b"\r\n") == TEXT.count("\n")


def test_a_link_beside_the_file_leads_nobody_elsewhere(tmp_path: Path) -> None:
    path, other = tmp_path / "home.yml", tmp_path / "other"
    path.write_text(TEXT)
    other.write_text("theirs")
    (tmp_path / ".home.yml.edited").symlink_to(other)
    candidate(path, TEXT.replace("ctx-size: 2048", "ctx-size: 4096")).keep()
    assert other.read_text() == "theirs" and "ctx-size: 4096" in path.read_text()
