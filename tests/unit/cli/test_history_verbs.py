"""What `paddock history` shows of the runs that have changed something."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli import main
from cli.history.record import _numbers
from control.lifecycle.history import History
from control.lifecycle.recorded_plans import as_data, plan_digest
from control.lifecycle.records import HostRecord, Record, RecordedChange
from control.state.evidence import keep
from control.state.fleet import FleetState
from resources import File, Resource

INVENTORY = """\
fleet: mine
domain: home.example
hosts:
  ai: {address: 192.0.2.7, roles: {base: {time: elsewhere}}}
  pi: {address: 192.0.2.8, roles: {base: {time: elsewhere}}}
"""
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WHEN = f"{BEGAN.astimezone():%Y-%m-%d %H:%M}"

KEY = File("/etc/x/key", "sk-never-to-be-seen", mode=0o600, secret=True)
TEMPERED = RecordedChange("mend", "file:/etc/paddock/presets.ini", "~", "llama_server", {"sha256": ("1", "2")})
RESTARTED = RecordedChange("restart", "service:llama-server.service", "~", "llama_server")


def presets(temperature: float) -> tuple[Resource, ...]:
    return File("/etc/paddock/presets.ini", f"[qwen]\nctx-size = 4096\ntemp = {temperature}\n"), KEY


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PADDOCK_STATE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "home.yml").write_text(INVENTORY)
    return tmp_path / "home.yml"


@pytest.fixture
def history(path: Path) -> History:
    """Four runs: two of `up` on ai, the second with pi; a revocation; one that was killed."""
    history = History(FleetState.of(path, "mine"))
    one, two = (as_data({"llama_server": presets(temperature)}) for temperature in (0.7, 0.8))
    of_ai = HostRecord((TEMPERED, RESTARTED), plan_digest(one), "", "0.3.36-1f0c", 12.25, "yes")
    _keep(history, {"ai": one}, "up", "anna@desk", {"ai": of_ai})
    again = HostRecord((TEMPERED, RESTARTED), plan_digest(two), "0.3.36-1f0c", "0.3.37-aabb", 3.0, "yes", figures={"tokens_per_s": 30.5})
    failed = HostRecord(failed="does not answer")
    _keep(history, {"ai": two}, "up", "ben@laptop", {"ai": again, "pi": failed}, "failed")
    revoked = HostRecord((RecordedChange("mend", "file:/etc/caddy/paddock/revoked"),))
    _keep(history, {}, "certs revoke", "anna@desk", {"pi": revoked}, words=("client phone: revoked",))
    _keep(history, {}, "restart", "anna@desk", {"pi": HostRecord((RESTARTED,))}, None)
    return history


def _keep(history: History, plans: dict, verb: str, who: str, hosts: dict, outcome: str | None = "done", words: tuple = ()) -> None:  # type: ignore[type-arg]
    ended = BEGAN + timedelta(seconds=72) if outcome else None
    record = Record(0, verb, who, BEGAN, "0.1.0", "/srv/home.yml", "ab" * 32, hosts, words, ended, outcome)
    kept = history.add(record)
    if plans:
        history.put_plans(kept.number, plans)


def said(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["-i", str(path), "history", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.usefixtures("history")
def test_the_runs_are_listed_the_newest_first(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(path, capsys)
    assert (code, err) == (0, "")
    assert out == (
        "run  when              who         verb          hosts  changed  release                    outcome\n"
        f"4    {WHEN}  anna@desk   restart       pi     1        -                          has not ended\n"
        f"3    {WHEN}  anna@desk   certs revoke  pi     1        -                          done\n"
        f"2    {WHEN}  ben@laptop  up            ai     2        0.3.36-1f0c → 0.3.37-aabb  failed on pi\n"
        f"1    {WHEN}  anna@desk   up            ai     2        none → 0.3.36-1f0c         verified\n"
    )


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("-n", "2"), [4, 3]),
        (("-n", "0"), [4, 3, 2, 1]),
        (("--limit", "ai"), [2, 1]),
        (("--limit", "pi", "-n", "1"), [4]),
    ],
)
def test_fewer_can_be_asked_for(path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], numbers: list[int]) -> None:
    code, out, _ = said(path, capsys, *words, "--json")
    assert code == 0 and [each["number"] for each in json.loads(out)] == numbers


@pytest.mark.usefixtures("history")
def test_one_run_is_shown_with_all_that_it_did(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(path, capsys, "show", "2") == (
        0,
        "run 2: up, by ben@laptop\n"
        f"  began      {WHEN}:00, took 72 s\n"
        "  outcome    failed on pi\n"
        "  inventory  /srv/home.yml, sha256 abababababababab\n"
        "  paddock    0.1.0\n"
        "\n"
        f"ai: 2 changed, 0.3.36-1f0c → 0.3.37-aabb, 3.0 s, plan {plan_digest(as_data({'llama_server': presets(0.8)}))}, verified: yes\n"
        "  tokens_per_s: 30.5\n"
        "  ~ file:/etc/paddock/presets.ini  content\n"
        "  ~ service:llama-server.service  (restarts)\n"
        "\n"
        "pi: 0 changed\n"
        "  FAILED: does not answer\n",
        "",
    )


@pytest.mark.usefixtures("history")
def test_the_difference_to_the_run_before_is_shown_as_text_and_no_secret(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(path, capsys, "show", "2", "--diff", "--limit", "ai")
    assert code == 0 and "sk-never" not in out
    assert out.partition("  compared with run 1:\n")[2] == (
        "  ~ file:/etc/paddock/presets.ini\n"
        "      @@ -2,2 +2,2 @@\n"
        "       ctx-size = 4096\n"
        "      -temp = 0.7\n"
        "      +temp = 0.8\n"
        "  ~ service:llama-server.service  restarts\n"
    )


@pytest.mark.usefixtures("history")
def test_a_first_plan_is_shown_by_names_and_a_part_by_its_changes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, first, _ = said(path, capsys, "show", "1", "--diff")
    assert first.endswith("which has:\n  + file:/etc/paddock/presets.ini\n  + file:/etc/x/key\n")
    _, part, _ = said(path, capsys, "show", "3", "--diff")
    assert "  state      client phone: revoked\n" in part and part.endswith("  ~ file:/etc/caddy/paddock/revoked\n")


@pytest.mark.usefixtures("history")
def test_the_last_run_is_shown_where_none_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(path, capsys, "show")[1].startswith("run 4: restart, by anna@desk\n")


@pytest.mark.usefixtures("history")
def test_programs_get_the_record_and_the_differences(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(path, capsys, "show", "2", "--diff", "--json")
    found = json.loads(out)
    assert (found["number"], found["outcome"], found["hosts"]["ai"]["figures"]) == (2, "failed", {"tokens_per_s": 30.5})
    assert found["hosts"]["ai"]["compared_with"] == 1
    assert found["hosts"]["ai"]["differences"][0]["texts"]["content"][-1] == "+temp = 0.8"


@pytest.mark.usefixtures("history")
def test_what_is_said_before_an_action_holds_for_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(path, capsys, "--json", "--limit", "ai", "show", "2")[1])["hosts"].keys() == {"ai"}


def test_plans_that_are_kept_no_more_cannot_be_compared(path: Path, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / ".paddock" / "mine" / "history" / "000002.plans.json.gz").unlink()
    assert said(path, capsys, "show", "2")[0] == 0
    code, _, err = said(path, capsys, "show", "2", "--diff")
    assert code == 1 and err == "run 2: the plans of ai are kept no more: `--diff` has nothing to compare\n"


def test_a_damaged_record_is_told_beside_the_others(path: Path, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / ".paddock" / "mine" / "history" / "000003.json").write_text("{")
    code, out, err = said(path, capsys)
    assert code == 1 and re.findall(r"^\d", out, re.MULTILINE) == ["4", "2", "1"]
    assert err.endswith("is damaged, or was written by a newer version of Paddock: put it back from a backup or from git\n")
    assert said(path, capsys, "show", "3")[0] == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 0, "no run has changed anything yet\n"),
        (("--limit", "ai"), 0, "no run has changed these hosts\n"),
        (("show",), 2, "no run has changed anything yet\n"),
        (("show", "7"), 2, "7: no record has this number; no run has changed anything yet\n"),
        (("show", "x"), 2, "x: is not the number of a run: `paddock history` lists them\n"),
        (("--limit", "nobody"), 2, "--limit nobody: no host, group or role of "),
    ],
)
def test_where_there_is_nothing_that_is_said(
    path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, told: str
) -> None:
    got, out, err = said(path, capsys, *words)
    assert (got, out) == (code, "") and err.startswith(told)
    assert not (path.parent / ".paddock").exists(), "looking has made something"


@pytest.fixture
def refused(path: Path, history: History) -> None:
    """A fifth run: a release that ai has taken back, and pi has refused in a run of which nothing is kept any more."""
    state = FleetState.of(path, "mine")
    journal = "".join(f"line {number}\n" for number in range(5000)) + "\x1b[2J\x9b31m" + "x" * 900
    keep(state, "ai", "upgrade-1", {"control-machine": b"nonsense: 95%\n", "llama-server.service.journal": journal.encode()})
    _keep(history, {}, "upgrade", "anna@desk", {"ai": HostRecord(evidence="upgrade-1"), "pi": HostRecord(evidence="upgrade-1")}, "failed")


@pytest.mark.usefixtures("refused")
def test_evidence_is_shown_to_its_last_lines_and_steers_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "  `paddock history show 5 --evidence` shows what tells why\n" in said(path, capsys, "show", "5")[1]
    code, out, err = said(path, capsys, "show", "--evidence")
    lines = out.split("\n")
    assert (code, err) == (0, "")
    at = lines.index(f"  evidence, in {path.parent}/.paddock/mine/evidence/ai-upgrade-1:")
    assert lines[at + 1].split() == ["control-machine", "14", "bytes"] and lines[at + 2].endswith(f"{48_890 + 9 + 900:,} bytes")
    assert lines[at + 4 : at + 6] == ["  control-machine", "      nonsense: 95%"]
    assert lines[at + 7] == "  llama-server.service.journal, the last 60 of 5,001 lines"
    assert lines[at + 8] == "      line 4941" and lines[at + 67] == "      \\x1b[2J\\x9b31m" + "x" * 392 + "…"
    assert lines[-2] == "  of its evidence nothing is kept any more"


@pytest.mark.usefixtures("refused")
def test_programs_get_all_of_the_evidence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(path, capsys, "show", "5", "--evidence", "--limit", "ai", "--json")
    (found,) = json.loads(out)["hosts"].values()
    assert found["collected"]["directory"].endswith("/evidence/ai-upgrade-1")
    assert found["collected"]["files"].keys() == {"control-machine", "llama-server.service.journal"}
    assert found["collected"]["files"]["llama-server.service.journal"].startswith("line 0\n")


@pytest.mark.usefixtures("history")
def test_a_run_without_evidence_says_so(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(path, capsys, "show", "2", "--evidence")
    assert code == 0 and out and err == "run 2: there is no evidence: no release was refused or taken back there\n"


@pytest.mark.usefixtures("history")
def test_numbers_of_runs_are_completed(path: Path) -> None:
    assert _numbers("", argparse.Namespace(inventory=path)) == ["4", "3", "2", "1"]
    assert _numbers("2", argparse.Namespace(inventory=path)) == ["2"]
