"""`paddock keys`: users who were made at gateways, over SSH servers on loopback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from control.lifecycle.history import History
from control.state.fleet import FleetState
from roles.base.settings import BaseSettings
from tests.unit.cli.keys.gateway_of_pi import KEY, Paddock, asked, declare, gateway, keys_of


def test_a_new_users_key_is_all_of_standard_output_and_on_no_command_line(paddock: Paddock, kept: Path) -> None:
    terms = "--models chat,small --requests 60 --tokens 1000 --window-s 30 --parallel 2 --weight 2 --expires 30d --admin --label lap"
    code, out, err = paddock("create", "erin", *terms.split())
    assert code == 0 and KEY.fullmatch(out.strip())
    (record,) = json.loads(gateway(kept, "keys", "list", "--user", "erin"))
    assert record["models"] == ["chat", "small"] and record["weight"] == 2 and record["admin"] and record["label"] == "lap"
    assert record["limits"] == {"requests": 60, "tokens": 1000, "window_s": 30, "parallel": 2}
    assert isinstance(record["expires"], float)
    assert f"erin: made on pi, id {record['id']}" in err and out.strip() not in err
    assert not KEY.search(asked(kept))


def test_as_json_it_is_the_key_and_what_is_known_of_it(paddock: Paddock) -> None:
    code, out, err = paddock("create", "erin", "--json")
    said = json.loads(out)
    assert (code, err) == (0, "") and KEY.fullmatch(said["key"])
    assert (said["record"]["user"], said["record"]["where"], said["record"]["state"]) == ("erin", ["pi"], "valid")


def test_who_is_a_user_already_gets_another_key(paddock: Paddock, kept: Path) -> None:
    code, out, err = paddock("create", "dave", "--label=-tablet")
    assert code == 0 and KEY.fullmatch(out.strip()) and "dave: another key was made on pi" in err
    assert [label for _, user, label in keys_of(kept) if user == "dave"] == ["-tablet", "phone"]
    code, out, err = paddock("create", "dave", "--requests", "5")
    assert (code, out) == (2, "") and err == "dave: is a user already, and another key of one takes --label and --expires alone\n"


def test_what_the_gateway_refuses_is_told_in_its_words(paddock: Paddock, kept: Path) -> None:
    code, out, err = paddock("create", "erin", "--models", "chta")
    assert (code, out) == (1, "") and "pi: " in err and "there is no model 'chta'. Did you mean \"chat\"?" in err
    assert len(keys_of(kept)) == 3


def test_the_list_has_both_kinds_of_users(paddock: Paddock, inventory: Path) -> None:
    declare(inventory, "alice: {models: [chat], limits: {requests: 60, parallel: 2}, expires: 2031-05-01}")
    code, out, _ = paddock("list")
    head, alice, carol, *_, dave = out.splitlines()
    assert code == 0 and head.split()[:2] == ["user", "id"]
    for words in ("alice", "chat", "60 requests in 60 s, 2 at once", "2031-05-01", "to be made", "inventory"):
        assert words in alice
    for words in ("carol", "sk-", "all", "valid", "pi"):
        assert words in carol
    assert dave.startswith("dave")


def test_for_programs_the_list_says_all_of_each_key(paddock: Paddock, inventory: Path) -> None:
    declare(inventory, "alice: {limits: {requests: 60}, expires: 2031-05-01}")
    found = {each["user"]: each for each in json.loads(paddock("list", "--json")[1])}
    assert found["alice"]["expires"] == "2031-05-01T00:00:00+00:00" and found["alice"]["limits"] == {"requests": 60, "window_s": 60}
    assert (found["dave"]["declared"], found["dave"]["weight"], found["dave"]["label"]) == (False, 3, "phone")


def test_a_revoked_user_has_no_key(paddock: Paddock, kept: Path) -> None:
    assert paddock("revoke", "carol")[0] == 2 and len(keys_of(kept)) == 3  # nobody could be asked
    code, out, _ = paddock("revoke", "carol", "--yes")
    assert code == 0 and out.count("is revoked on pi") == 2
    assert [user for _, user, _ in keys_of(kept)] == ["dave"]


def test_of_several_keys_one_is_named_by_its_id(paddock: Paddock, kept: Path) -> None:
    first, second = (id for id, user, _ in keys_of(kept) if user == "carol")
    code, _, err = paddock("rotate", "carol", "--yes")
    assert code == 2 and err == f"carol: has several keys: name one of {first}, {second}\n"
    assert paddock("revoke", second, "--yes")[0] == 0
    assert [id for id, user, _ in keys_of(kept) if user == "carol"] == [first]


def test_another_key_takes_the_place_of_one_that_is_refused_from_then_on(paddock: Paddock, kept: Path) -> None:
    (before,) = (id for id, user, _ in keys_of(kept) if user == "dave")
    code, out, err = paddock("rotate", "dave", "--yes")
    ((now, label),) = ((id, label) for id, user, label in keys_of(kept) if user == "dave")
    assert code == 0 and KEY.fullmatch(out.strip()) and now != before and label == "phone"
    assert f"dave: another key on pi, id {now}" in err


def test_what_is_done_to_keys_is_in_the_history_without_a_key(paddock: Paddock, inventory: Path, kept: Path) -> None:
    (before,) = (id for id, user, _ in keys_of(kept) if user == "dave")
    made = [paddock("create", "erin")[1].strip(), paddock("rotate", "dave", "--yes")[1].strip()]
    paddock("revoke", "erin", "--yes")
    assert paddock("create", "eve", "--models", "chta")[0] == 1
    history = History(FleetState.of(inventory, "home"))
    told = [
        (each.verb, each.outcome, *((done.action, done.resource) for done in each.hosts["pi"].changes))
        for each in history.newest(pytest.fail)
    ]
    assert told[0] == ("keys create", "failed", ("create", "key:eve"))
    assert [each[:2] for each in told[1:]] == [("keys revoke", "done"), ("keys rotate", "done"), ("keys create", "done")]
    assert (told[2][2], told[3][2]) == (("rotate", f"key:dave:{before}"), ("create", "key:erin"))
    files = "".join(path.read_text() for path in (inventory.parent / ".paddock" / "home" / "history").iterdir())
    assert all(made) and not any(key in files for key in made)


def test_what_is_known_of_a_user_is_shown_and_of_the_key_a_hint(paddock: Paddock) -> None:
    code, out, _ = paddock("show", "dave")
    assert code == 0 and not KEY.search(out) and re.search(r"key +sk-..…....\n", out)
    for words in ("dave: ", "phone", "weight", "3", "where"):
        assert words in out
    code, _, err = paddock("show", "dave", "--key")
    assert code == 2 and "`paddock keys rotate` makes another" in err


def test_who_is_unknown_may_have_been_meant(paddock: Paddock) -> None:
    assert paddock("show", "carl")[::2] == (2, 'carl: no user and no key is called so (did you mean "carol"?)\n')
    assert paddock("revoke", "xyz", "--yes")[::2] == (2, "xyz: no user and no key is called so: `paddock keys list` lists all\n")


@pytest.mark.usefixtures("two")
def test_of_gateways_with_users_of_their_own_one_has_to_be_named(paddock: Paddock, kept: Path) -> None:
    code, out, err = paddock("create", "erin")
    assert (code, out) == (2, "")
    assert err == "erin is to be made: these gateways have users of their own: pi; ai. Name one with --on HOST\n"
    assert asked(kept) == ""
    code, _, err = paddock("create", "erin", "--on", "ai")
    assert code == 0 and "made on ai, id" in err


@pytest.mark.usefixtures("two")
def test_a_user_whom_two_gateways_know_is_revoked_at_the_one_that_is_named(paddock: Paddock, kept: Path) -> None:
    code, _, err = paddock("revoke", "dave", "--yes")  # both have one database here
    assert code == 2 and "is known to gateways that have users of their own: pi; ai. Name one with --on HOST" in err
    assert paddock("revoke", "dave", "--yes", "--on", "pi")[0] == 0 and len(keys_of(kept)) == 2


@pytest.mark.usefixtures("two")
def test_of_gateways_that_share_their_users_one_is_asked(paddock: Paddock, shares: list[str], kept: Path) -> None:
    shares += ["pi", "ai"]
    code, _, err = paddock("create", "erin")
    assert code == 0 and "made on pi and ai" in err and asked(kept).count("create-user") == 1


@pytest.mark.usefixtures("away")
def test_another_gateway_of_the_same_database_answers_for_one_that_is_away(paddock: Paddock, shares: list[str]) -> None:
    shares += ["pi", "away"]
    code, out, err = paddock("create", "erin")
    assert code == 0 and KEY.fullmatch(out.strip()) and "away: root@127.0.0.9:1 cannot be reached" in err


@pytest.mark.usefixtures("away")
def test_the_list_is_incomplete_where_a_gateway_is_away(paddock: Paddock) -> None:
    code, out, err = paddock("list")
    assert code == 1, err
    assert "carol" in out and "away: root@127.0.0.9:1 cannot be reached" in err
    code, _, err = paddock("revoke", "xyz", "--yes")
    assert code == 1 and "xyz: not found where a gateway could be asked" in err


def test_a_host_without_a_gateway_is_told_with_those_that_have_one(paddock: Paddock) -> None:
    assert paddock("create", "erin", "--on", "pie")[::2] == (2, '--on pie: no gateway is on a host of this name (did you mean "pi"?)\n')


def test_without_a_gateway_there_are_no_keys(paddock: Paddock, monkeypatch: pytest.MonkeyPatch, inventory: Path) -> None:
    monkeypatch.setattr(BaseSettings, "admits_users", False)
    assert paddock("list")[::2] == (2, f"{inventory}: no host has a gateway, and keys are for gateways: add the role gateway to one\n")
