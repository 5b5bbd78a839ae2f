"""What is kept of a release that was measured and is not taken: the findings, the answers that failed, the end of its log."""

from __future__ import annotations

from pathlib import Path

from control.lifecycle.evidence import ANSWER_BYTES, Evidence, files_of
from control.lifecycle.history import History
from control.lifecycle.judgement import Judgement, judge
from control.lifecycle.recording import Recording
from control.lifecycle.requests import LIKELY
from control.state.evidence import TOLD, kept
from control.state.fleet import FleetState
from inventory.upgrade import UpgradeLimits
from tests.unit.lifecycle.simulated import OTHERS, Release, Simulated

UNIT = "llama-server.service"


def judgement(canary: Release) -> Judgement:
    return judge(Simulated(canary, noise=0, load=0).measured(), UpgradeLimits(), "0.3.34")


def files(canary: Release) -> dict[str, bytes]:
    return files_of(UNIT, judgement(canary))


def test_the_answer_of_the_check_that_failed_is_kept() -> None:
    nonsense = files(Release(said={LIKELY: {"completion_probabilities": OTHERS}}))
    assert nonsense[f"{UNIT}.answers"].startswith(b"nonsense: 95% of what it thinks likely is not what 0.3.34 does:\n")
    assert b'"id": 70' in nonsense[f"{UNIT}.answers"]
    broken = files(Release(status={LIKELY: 501}, said={LIKELY: "x" * 200_000}))
    assert b"HTTP 501" in broken[f"{UNIT}.answers"] and len(broken[f"{UNIT}.answers"]) < ANSWER_BYTES + 500


def test_figures_and_the_log_are_kept_of_one_that_is_slower() -> None:
    slower = files(Release(prompts=264))
    assert slower.keys() == {f"{UNIT}.measured", f"{UNIT}.log"}
    assert b"fail          prompts: 264 tokens/s against 400 of 0.3.34 (-34 %, limit -15 %)\n" in slower[f"{UNIT}.measured"]
    assert slower[f"{UNIT}.log"] == b"log of 2\n"


def test_a_run_that_was_stopped_before_it_changed_anything_has_a_record_of_why(tmp_path: Path) -> None:
    state, said = FleetState.of(tmp_path / "home.yml", "home"), list[str]()
    record = Recording(state, "upgrade", said.append)
    evidence = Evidence(state, record, "upgrade-1", said.append, said.append)
    evidence.measured("ai", UNIT, judgement(Release(prompts=264)))
    evidence.of_failure("ai", "is worse")
    record.closes()
    assert said == ["ai: `paddock history show 1 --evidence` shows what tells why"]
    assert History(state).record(1).hosts["ai"].evidence == "upgrade-1"
    found = kept(state, "ai", "upgrade-1")
    assert found[TOLD] == b"is worse" and found.keys() == {TOLD, f"{UNIT}.measured", f"{UNIT}.log"}
