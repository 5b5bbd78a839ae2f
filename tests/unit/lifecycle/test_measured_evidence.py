"""What is kept of a release that was measured and is not taken: the findings, the answers that failed, the end of its log."""

from __future__ import annotations

from control.lifecycle.evidence import ANSWER_BYTES, files_of
from control.lifecycle.judgement import judge
from control.lifecycle.requests import LIKELY
from inventory.upgrade import UpgradeLimits
from tests.unit.lifecycle.simulated import OTHERS, Release, Simulated

UNIT = "llama-server.service"


def files(canary: Release) -> dict[str, bytes]:
    return files_of(UNIT, judge(Simulated(canary, noise=0, load=0).measured(), UpgradeLimits(), "0.3.34"))


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
