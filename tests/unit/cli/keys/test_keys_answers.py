"""What a host answers for its gateway is checked before it is shown or acted on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from control.servers.gateway_users import NEW_KEY, RECORDS, parsed
from inventory.errors import PaddockError
from tests.hostile.text import LINES, faults
from tests.unit.cli.keys.gateway_of_pi import Paddock

RECORD = {"id": "k_1", "user": "carol"}


def test_a_host_without_the_program_says_what_to_do(paddock: Paddock, command: Callable[..., None]) -> None:
    command("/nowhere/python", "-m", "paddock_gateway")
    code, out, err = paddock("create", "erin")
    assert (code, out) == (1, "") and "no gateway is installed there: `paddock up` does that" in err


def test_an_answer_that_makes_no_sense_is_told_and_not_acted_on(paddock: Paddock, command: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(json.dumps([{**RECORD, "id": LINES}]))
    command("/bin/sh", "-c", f'echo "$@" >>{tmp_path}/said; cat {tmp_path}/answer', "sh")
    code, out, err = paddock("revoke", "carol", "--yes")
    assert code == 1 and "pi: what its gateway answers to `keys` makes no sense (at 0.id)" in err and not faults(out + err)
    assert (tmp_path / "said").read_text() == "keys list --json\n"


@pytest.mark.parametrize(
    "answer",
    [
        *("", "no JSON", "[" * 5000, "{}", '[{"id": "k_1"}]', '[{"id": "k_1", "user": "carol", "weight": NaN}]'),
        *(json.dumps([{**RECORD, "id": each}]) for each in (LINES, "k_1; reboot", "--all", "k_1\n", "")),
        *(json.dumps([{**RECORD, "expires": each}]) for each in (1e300, "tomorrow", -1)),
        *(json.dumps([{**RECORD, **each}]) for each in ({"weight": 0}, {"models": "chat"}, {"label": "x" * 2000}, {"user": ""})),
    ],
)
def test_what_is_no_record_of_a_key_is_none(answer: str) -> None:
    with pytest.raises(PaddockError, match=r"^pi makes no sense( \(at [a-z0-9.]+\))?$"):
        parsed(RECORDS, answer, "pi")


@pytest.mark.parametrize(
    "key", ["", "sk-short", "sk-" + "a" * 600, f"sk-{'a' * 40}\n{'b' * 40}", f"sk-{'a' * 40}\x1b[2J", f"sk-{'a' * 40}\n"]
)
def test_what_is_no_key_is_not_handed_on_as_one_nor_shown(key: str) -> None:
    with pytest.raises(PaddockError, match=r"^pi makes no sense \(at key\)$"):
        parsed(NEW_KEY, json.dumps({"key": key, **RECORD}), "pi")


def test_what_a_gateway_keeps_is_shown_and_not_obeyed(paddock: Paddock, command: Callable[..., None], tmp_path: Path) -> None:
    hostile = {**RECORD, "user": LINES[:200], "label": LINES[:900], "hint": LINES[:900], "models": [LINES[:900]], "limits": {LINES[:90]: 1}}
    (tmp_path / "answer").write_text(json.dumps([hostile]))
    command("/bin/sh", "-c", f"cat {tmp_path}/answer", "sh")
    for words in (("list",), ("list", "--json"), ("show", "k_1")):
        code, out, err = paddock(*words)
        assert code == 0 and not faults(out + err), words
