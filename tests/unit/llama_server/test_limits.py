"""Settings that llama-server takes one by one, and ends with where they come together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.llama_cpp.definitions import Definitions
from control.llama_cpp.limits import CONTEXT, ROUTER, refused_elsewhere, rules_of
from control.llama_cpp.options import checked
from inventory.errors import InventoryError
from inventory.limits import QUANTIZED_SPLIT, RULES, STARTUP, STARTUP_WITHOUT_LIMIT, beyond_cards, contradictions, startup_fault
from inventory.load import load, loaded
from inventory.options import SHIPPED, Value, faults, read

NEWEST = read(SHIPPED.read_text())
OLDER = replace(NEWEST, rules={QUANTIZED_SPLIT: ("q8_0",)})


@pytest.mark.parametrize(
    ("preset", "key", "words"),
    [
        (
            {"flash-attn": False, "cache-type-v": "q8_0"},
            "cache-type-v",
            '"cache-type-v" is q8_0 and "flash-attn" is off',
        ),
        ({"ctv": "q4_0", "fa": "off"}, "fa", '"ctv" is q4_0 and "fa" is off, but in llama-server 0.3.36 a quantized V cache needs flash'),
        (
            {"split-mode": "tensor", "flash-attn": 0},
            "flash-attn",
            '"flash-attn" is 0, but in llama-server 0.3.36 splitting by tensor needs',
        ),
        ({"batch-size": 0, "ubatch-size": 0, "np": 1}, "ubatch-size", "only one of the two may be 0"),
        (
            {"batch-size": 2},
            "batch-size",
            'a batch needs a token for every slot: set "batch-size" to 4 or more, one for each of the 4 slots',
        ),
        ({"b": 8, "parallel": 16}, "parallel", 'set "b" to 16 or more'),
        ({"b": -1}, "b", 'set "b" to 4 or more'),
        ({"embeddings": True, "ubatch-size": 2}, "ubatch-size", 'set "ubatch-size" to 4 or more'),
        ({"spec-synth-len": 2, "spec-synth-rates": "0.5"}, "spec-synth-rates", "the two exclude each other: remove one of them"),
        ({"jinja": False, "chat-template": "llam3"}, "chat-template", '(did you mean "llama3"?)'),
        ({"chat-template": "llam3", "no-jinja": True}, "no-jinja", '(did you mean "llama3"?)'),
    ],
)
def test_settings_that_exclude_each_other_are_told_at_the_last_of_them(preset: dict[str, Value], key: str, words: str) -> None:
    assert list(faults(preset, NEWEST)) == []
    found = list(contradictions(preset, NEWEST))
    assert {(fault.key, fault.of_value) for fault in found} == {(key, True)}
    assert words in found[0].words


@pytest.mark.parametrize(
    "preset",
    [
        {},
        {"flash-attn": "auto", "cache-type-v": "q8_0"},
        {"flash-attn": "off", "cache-type-k": "q8_0", "cache-type-v": "bf16"},
        {"flash-attn": "off", "split-mode": "row"},
        {"split-mode": "tensor", "cache-type-v": "q8_0"},
        {"batch-size": 4, "ubatch-size": 0},
        {"batch-size": 2, "parallel": 2},
        {"batch-size": 1, "np": 1},
        {"ubatch-size": 1},
        {"embeddings": True, "batch-size": -1},
        {"pooling": "mean", "b": -1},
        {"batch-size": "many", "parallel": "few"},
        {"spec-synth-len": 2},
        {"chat-template": "llam3"},
        {"jinja": False, "chat-template": "llama3"},
        {"no-jinja": False, "chat-template": "llam3"},
        {"jinja": False, "chat-template": "mistral-of-mine"},
        {"jinja": False, "chat-template": "{{ messages }} <|im_start|>"},
        {"jinja": False, "chat-template": "llam3", "chat-template-file": "/srv/chat.jinja"},
    ],
)
def test_settings_that_go_together_are_well(preset: dict[str, Value]) -> None:
    assert list(contradictions(preset, NEWEST)) == []


@pytest.mark.parametrize(
    ("preset", "cards", "told"),
    [
        ({"split-mode": "none", "main-gpu": 1}, 1, True),
        ({"sm": "none", "mg": 2}, 2, True),
        ({"split-mode": "none", "main-gpu": 1}, 2, False),
        ({"split-mode": "none", "main-gpu": -1}, 1, False),
        ({"split-mode": "none", "main-gpu": 1}, 0, False),
        ({"main-gpu": 1}, 1, False),
        ({"split-mode": "none", "main-gpu": 1, "rpc": "192.0.2.9:50052"}, 1, False),
    ],
)
def test_the_main_card_is_one_that_the_server_sees(preset: dict[str, Value], cards: int, told: bool) -> None:
    assert [fault.key in ("main-gpu", "mg") for fault in beyond_cards(preset, NEWEST, cards)] == [True] * told


def test_a_rule_counts_only_where_the_source_has_it() -> None:
    assert {*RULES} - {*NEWEST.rules} == {QUANTIZED_SPLIT}
    preset: dict[str, Value] = {"split-mode": "tensor", "cache-type-k": "q8_0", "flash-attn": False, "batch-size": 2}
    assert [fault.key for fault in contradictions(preset, OLDER)] == ["cache-type-k"]
    assert list(contradictions(preset, replace(NEWEST, rules={}))) == []


@pytest.mark.parametrize(
    ("condition", "rules"),
    [
        ("(int)models_to_load.size() > base_params.models_max", {STARTUP, STARTUP_WITHOUT_LIMIT}),
        ("(int) models_to_load.size() > params.models_max", {STARTUP, STARTUP_WITHOUT_LIMIT}),
        ("base_params.models_max > 0 && (int)models_to_load.size() > base_params.models_max", {STARTUP}),
        ("strict && (int)models_to_load.size() > base_params.models_max", set()),
        ("(int)models_to_load.size() > 3", set()),
    ],
)
def test_whether_0_is_a_limit_on_startup_is_read_in_the_source(condition: str, rules: set[str]) -> None:
    text = f"        if ({condition}) {{\n            throw std::runtime_error(x);\n        }}\n"
    assert set(rules_of(Definitions({ROUTER: text}))) == rules


def test_a_source_without_the_words_has_no_limit() -> None:
    assert rules_of(Definitions({})) == refused_elsewhere({}) == {}
    assert rules_of(Definitions({CONTEXT: "V cache quantization requires flash_attn"})) == {"a quantized V cache needs flash attention": ()}


def test_models_that_load_on_startup_fit_under_models_max() -> None:
    assert [startup_fault(("a", "b"), most, 3, NEWEST) for most in (2, 3)] == ["", ""]
    assert startup_fault((), 0, 3, NEWEST) == startup_fault((), 1, 3, NEWEST) == ""
    assert startup_fault(("a", "b"), 1, 3, NEWEST).startswith(
        "a, b load on startup, and models_max is 1: llama-server 0.3.36 would not start; "
    )
    assert startup_fault(("a",), 0, 3, NEWEST).endswith("because 0 allows none on startup; set models_max to 3, the number of models")
    guarded = replace(NEWEST, rules={STARTUP: ()})
    assert not startup_fault(("a", "b"), 0, 3, guarded) and startup_fault(("a", "b"), 1, 3, guarded)
    assert not startup_fault(("a", "b"), 1, 3, replace(NEWEST, rules={}))


INVENTORY = """
fleet: home
domain: home.example
defaults:
  roles:
    llama_server:
      preset: {ROLE}
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp:
      models:
      llama_server:
        models: [one, two, three]MORE
models:
  one: {preset: {ONE}}
  two: {preset: {TWO}}
  three:
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"MORE": "\n        models_max: 2", "ONE": "load-on-startup: on", "TWO": "load-on-startup: true"}, []),
        ({"MORE": "\n        models_max: 2", "ROLE": "load-on-startup: on", "ONE": "load-on-startup: off"}, []),
        ({"ONE": "load-on-startup: on"}, []),
        (
            {"ONE": "load-on-startup: on", "TWO": "load-on-startup: on"},
            ["15:9: hosts.ai.roles.llama_server.models: one, two load on startup, and models_max is 1"],
        ),
        (
            {"MORE": "\n        models_max: 2", "ROLE": "load-on-startup: on"},
            ["16:21: hosts.ai.roles.llama_server.models_max: one, two, three load on startup, and models_max is 2"],
        ),
        (
            {"MORE": "\n        models_max: 0", "ONE": "load-on-startup: on"},
            ["16:21: hosts.ai.roles.llama_server.models_max: one loads on startup, and models_max is 0"],
        ),
        (
            {"ROLE": "flash-attn: off", "ONE": "cache-type-v: q8_0", "TWO": "cache-type-v: q8_0, flash-attn: on"},
            ['17:32: models.one.preset.cache-type-v: "cache-type-v" is q8_0 and "flash-attn" is off'],
        ),
        (
            {"ROLE": "cache-type-v: q8_0", "MORE": "\n        instances: {x: {model: three, listen: '127.0.0.1:81', preset: {fa: off}}}"},
            ['16:76: hosts.ai.roles.llama_server.instances.x.preset.fa: "cache-type-v" is q8_0 and "fa" is off'],
        ),
        (
            {"MORE": "\n        instances: {x: {model: three, listen: '127.0.0.1:81', gpus: [3], preset: {sm: none, mg: 3}}}"},
            ['16:97: hosts.ai.roles.llama_server.instances.x.preset.mg: "mg" is 3, but the server has 1 of the cards'],
        ),
        (
            {"ROLE": "batch-size: 2", "ONE": "b: 64", "TWO": "np: 2"},
            ['7:28: defaults.roles.llama_server.preset.batch-size: "batch-size" is 2'],
        ),
    ],
)
def test_check_looks_at_all_that_a_model_is_served_with(said: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    text = INVENTORY
    for name in ("ROLE", "MORE", "ONE", "TWO"):
        text = text.replace(name, said.get(name, ""))
    path = tmp_path / "home.yml"
    path.write_text(text)
    told: list[str] = []
    try:
        checked(loaded(path).positions, load(path))
    except InventoryError as error:
        told = error.problems
    assert [line.removeprefix(f"{path}:")[: len(start)] for line, start in zip(told, expected, strict=True)] == expected
