"""`paddock keys`: users whom the inventory declares, and users who were made at gateways, over SSH servers on loopback."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import control.servers.gateway_users
from cli import main
from control.servers.gateway_users import NEW_KEY, RECORDS, parsed
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from roles.base.settings import BaseSettings
from tests.hostile.text import LINES, faults
from tests.unit.control.loopback import Served, served

assert control.ssh.cooperative

ROOT = Path(__file__).parents[3]
GATEWAY = ROOT / "services" / "gateway"
HOST_KEY = "ssh-ed25519 AAAA" + "B" * 64
KEY = re.compile(r"sk-[A-Za-z0-9_-]{43}")

Paddock = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a gateway where carol has two keys, and dave one."""
    directory = tmp_path_factory.mktemp("gateway")
    gateway(configured(directory), "init-db")
    gateway(directory / "gateway.json", "create-user", "--username", "carol")
    gateway(directory / "gateway.json", "keys", "create", "--user", "carol", "--label", "laptop")
    gateway(directory / "gateway.json", "create-user", "--username", "dave", "--weight", "3", "--label", "phone")
    return directory / "gateway.db"


@pytest.fixture
def kept(tmp_path: Path, database: Path) -> Path:
    """A gateway's configuration, with the database beside it."""
    shutil.copy(database, tmp_path)
    return configured(tmp_path)


@pytest.fixture
def command(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has hosts run another program than the gateway's own, which notes its command lines in `said`."""

    def runs(*words: str) -> None:
        monkeypatch.setattr(control.servers.gateway_users, "COMMAND", words)

    noted = f'echo "$@" >>{kept.parent}/said; exec {sys.executable} -m paddock_gateway --configuration {kept} "$@"'
    monkeypatch.setenv("PYTHONPATH", str(GATEWAY))
    runs("/bin/sh", "-c", noted, "sh")
    return runs


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts whose gateways have one database for their users, the others have their own. A gateway is whatever has the role base."""
    sharing: list[str] = []
    monkeypatch.setattr(BaseSettings, "admits_users", True)
    monkeypatch.setattr(BaseSettings, "user_database", lambda self, host: "shared" if host in sharing else host)
    return sharing


@pytest.fixture
def inventory(tmp_path: Path, shares: list[str], command: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`pi` has a gateway."""
    for name in [name for name in os.environ if name.startswith(("PADDOCK_", "SSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "home.yml"
    path.write_text("fleet: home\ndomain: home.example\nhosts:\nmodels: {chat: }\n")
    with served(address="127.0.0.2") as pi:
        add(path, "pi", pi)
        yield path


@pytest.fixture
def two(inventory: Path) -> Iterator[None]:
    """`ai` has one too."""
    with served(address="127.0.0.3") as ai:
        add(inventory, "ai", ai)
        yield


@pytest.fixture
def away(inventory: Path) -> None:
    """`away` has one, and nothing answers there."""
    line = f"  away: {{address: 127.0.0.9, port: 1, host_key: {HOST_KEY}, roles: {{base: }}}}"
    inventory.write_text(inventory.read_text().replace("models:", f"{line}\nmodels:"))


def add(inventory: Path, name: str, host: Served) -> None:
    line = f"  {name}: {{address: {host.address}, port: {host.port}, host_key: {host.key}, roles: {{base: }}}}"
    inventory.write_text(inventory.read_text().replace("models:", f"{line}\nmodels:"))


@pytest.fixture
def paddock(inventory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paddock:
    """`paddock("list")` for its code, its output and its errors; nobody is at the terminal."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code = main(["keys", *arguments, "-i", str(inventory)])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def vault(inventory: Path) -> Vault:
    return Vault(FleetState.of(inventory, "home"))


def declare(inventory: Path, *users: str) -> None:
    text = re.sub(r"^users:.*\n", "", inventory.read_text(), flags=re.M)
    inventory.write_text(f"{text}users: {{{', '.join(users)}}}\n" if users else text)


def configured(directory: Path) -> Path:
    """A gateway's configuration in a directory."""
    (directory / "pepper").write_text("5" * 64)
    (directory / "pepper").chmod(0o600)
    said = {"listen": ["127.0.0.1:8001"], "database": f"sqlite:{directory}/gateway.db", "pepper_file": f"{directory}/pepper"}
    models = {name: {"targets": [{"backend": "here", "model": name}]} for name in ("chat", "small")}
    beside = {"state": str(directory), "backends": {"here": {"url": "http://127.0.0.1:8080"}}, "models": models}
    (directory / "gateway.json").write_text(json.dumps({**said, **beside}))
    return directory / "gateway.json"


def gateway(configuration: Path, *words: str) -> str:
    """What the gateway's own command says."""
    command = [sys.executable, "-m", "paddock_gateway", "--configuration", str(configuration), *words, "--json"]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(GATEWAY)}, check=True, capture_output=True, text=True).stdout


def keys_of(kept: Path) -> list[tuple[str, str, str]]:
    """Id, user and label of each key that is not revoked."""
    with closing(sqlite3.connect(kept.with_name("gateway.db"))) as opened:
        return opened.execute("SELECT id, username, label FROM keys WHERE revoked IS NULL ORDER BY username, label").fetchall()


def asked(kept: Path) -> str:
    """The command lines by which it was asked over SSH."""
    said = kept.with_name("said")
    return said.read_text() if said.exists() else ""


# Users who were made at a gateway


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


# Users whom the inventory declares


def test_a_declared_users_key_is_in_the_state_and_no_host_is_asked(paddock: Paddock, inventory: Path, vault: Vault, kept: Path) -> None:
    declare(inventory, "alice: ")
    assert paddock("show", "alice", "--key")[0] == 1  # there is none yet
    vault.set("user.alice", key := "sk-" + "a" * 43)
    assert paddock("show", "alice", "--key") == (0, f"{key}\n", "")
    code, out, _ = paddock("show", "alice")
    assert code == 0 and "sk-aa…aaaa" in out and key not in out
    assert asked(kept) == ""


def test_a_declared_user_is_given_another_key_which_up_lands(paddock: Paddock, inventory: Path, vault: Vault, kept: Path) -> None:
    declare(inventory, "alice: ")
    vault.set("user.alice", "sk-" + "a" * 43)
    code, out, err = paddock("rotate", "alice", "--yes")
    assert code == 0 and KEY.fullmatch(out.strip()) and vault.get("user.alice") == out.strip()
    assert err == "alice: has another key; the old one works until `paddock up` lands it:\n" and asked(kept) == ""


@pytest.mark.parametrize(("verb", "says"), [("create", "`paddock up` makes its key"), ("revoke", "take it out of `users`")])
def test_a_declared_user_is_changed_in_the_inventory(paddock: Paddock, inventory: Path, kept: Path, verb: str, says: str) -> None:
    declare(inventory, "alice: ")
    code, out, err = paddock(verb, "alice")
    assert (code, out) == (2, "") and f"alice: is declared in {inventory}: " in err and says in err
    assert asked(kept) == ""


def test_the_key_of_who_has_left_the_inventory_is_listed_until_it_is_revoked(paddock: Paddock, inventory: Path, vault: Vault) -> None:
    vault.set("user.alice", "sk-" + "a" * 43)
    assert "left the inventory" in paddock("list")[1]
    code, out, _ = paddock("revoke", "alice", "--yes")
    assert code == 0 and out.startswith("alice: its key is removed from the state")
    assert not vault.is_named("user.alice") and "left the inventory" not in paddock("list")[1]


# Several gateways


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


# What hosts answer

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


# The command line


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
