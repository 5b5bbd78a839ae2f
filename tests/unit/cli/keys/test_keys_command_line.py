"""What `paddock keys` takes on its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from control.state.secrets import Vault
from tests.unit.cli.keys.gateway_of_pi import Paddock, asked

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("verb", ["show", "revoke", "rotate"])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(paddock: Paddock, kept: Path, verb: str) -> None:
    code, out, err = paddock(verb, key := "sk-" + "a" * 43)
    assert (code, out) == (2, "") and err.startswith("this is a key") and key not in err and asked(kept) == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--models", "chat", "--expires", "soon"), "'soon' is neither a number of days, such as 30d, nor a day, such as 2027-01-01"),
        (("--expires", "2027-02-30"), "is neither a number of days"),
        (("--requests", "0"), "'0' is not a whole number of 1 or more"),
        (("--weight", "nan"), "'nan' is not a number over 0, 1000 at most"),
        (("--weight", "0"), "'0' is not a number over 0, 1000 at most"),
    ],
)
def test_what_is_wrong_with_terms_is_2(paddock: Paddock, kept: Path, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        paddock("create", "carol", *words)
    assert ended.value.code == 2 and asked(kept) == ""


@pytest.mark.parametrize("user", ["", "a b", "_x", "x" * 65, "x\ny", "../x", "$(x)"])
def test_a_name_that_no_user_can_have_is_refused(paddock: Paddock, kept: Path, user: str) -> None:
    code, out, err = paddock("create", user)
    assert (code, out) == (2, "") and "cannot be a user's name" in err and err.count("\n") == 1 and asked(kept) == ""


def test_the_tab_key_offers_users_of_the_inventory(inventory: Path, tmp_path: Path, vault: Vault) -> None:
    vault.set("user.alfred", "sk-" + "a" * 43)
    line = "paddock keys show al"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"), "_ARGCOMPLETE_IFS": "\n"}
    env = {**os.environ, **asked, "PADDOCK_INVENTORY": str(inventory), "COMP_LINE": line, "COMP_POINT": str(len(line))}
    env["_ARGCOMPLETE_COMP_WORDBREAKS"] = " "
    subprocess.run([sys.executable, "-m", "cli"], cwd=ROOT, env=env, timeout=60)
    assert {word.strip() for word in (tmp_path / "said").read_text().split("\n")} == {"alfred"}
